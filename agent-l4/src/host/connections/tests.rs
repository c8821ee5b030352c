use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

/// As Linux 6.1 prints it.
const TABLE: &str = "\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
IP  0A0C0102 0000 47000001 0000 0A0C0101 0000 ASSURED         298
TCP 0A0C0102 0000 0A0C0164 0050 0A0C0101 0050 ASSURED         298
TCP fd12:0000:0000:0000:0000:0000:0000:0002 AC0C fd12:0000:0000:0000:0000:0000:0000:0100 0050 fd12:0000:0000:0000:0000:0000:0000:0001 0050 ESTABLISHED     898
TCP 0A0C0102 E2E4 0A0C0164 0068 0A0C0101 0068 ESTABLISHED     898
UDP 0A0C0102 DE34 0A0C0164 0202 0A0C0101 0202 UDP             298
IP  fd12:0000:0000:0000:0000:0000:0000:0002 0000 4700:0001:0000:0000:0000:0000:0000:0000 0000 fd12:0000:0000:0000:0000:0000:0000:0001 0000 ASSURED         298
UDP 0A0C0102 13C4 0A0C0164 13C4 0A0C0101 13C4 UDP             298 sip 3848276298220188511@client
SCT 0A0C0102 DE34 0A0C0164 0202 0A0C0101 0202 ESTABLISHED     298
";

fn in_time() -> bool {
    false
}

fn told(entry: &Entry) -> String {
    let Entry { protocol, client, virtual_address, destination, state, expires, template } = entry;
    let mark = entry.mark().map_or(String::new(), |mark| format!(" mark {mark:#x}"));
    let template = if *template { " template" } else { "" };
    format!(
        "{protocol:?} {client} {virtual_address} {destination} {state} {expires:?}{template}{mark}"
    )
}

#[test]
fn the_kernels_table_is_read() {
    let read = collect(TABLE.as_bytes(), 100, in_time).unwrap();
    let told: Vec<_> = read.entries.iter().map(told).collect();
    assert_eq!(
        told,
        [
            "Any 10.12.1.2:0 71.0.0.1:0 10.12.1.1:0 ASSURED 298s template mark 0x47000001",
            "Tcp 10.12.1.2:0 10.12.1.100:80 10.12.1.1:80 ASSURED 298s template",
            "Tcp [fd12::2]:44044 [fd12::100]:80 [fd12::1]:80 ESTABLISHED 898s",
            "Tcp 10.12.1.2:58084 10.12.1.100:104 10.12.1.1:104 ESTABLISHED 898s",
            "Udp 10.12.1.2:56884 10.12.1.100:514 10.12.1.1:514 UDP 298s",
            "Any [fd12::2]:0 [4700:1::]:0 [fd12::1]:0 ASSURED 298s template mark 0x47000001",
            "Udp 10.12.1.2:5060 10.12.1.100:5060 10.12.1.1:5060 UDP 298s",
        ]
    );
    assert_eq!((read.skipped, read.cut), (1, false), "SCTP is none of ours");
}

#[test]
fn an_ipv4_service_may_tunnel_to_ipv6_servers() {
    let line = "TCP 0A0C0102 E2E4 0A0C0164 0068 fd12:0000:0000:0000:0000:0000:0000:0001 0068 \
                SYN_RECV         58\n";
    assert_eq!(entry(line).unwrap().destination, "[fd12::1]:104".parse().unwrap());
}

#[test]
fn no_more_are_read_than_asked_for() {
    let read = collect(TABLE.as_bytes(), 3, in_time).unwrap();
    assert_eq!((read.entries.len(), read.cut), (3, true));
    let read = collect(TABLE.as_bytes(), 7, in_time).unwrap();
    assert_eq!((read.entries.len(), read.skipped), (7, 0));
    let read = collect(TABLE.as_bytes(), 7, || true).unwrap();
    assert_eq!((read.entries.len(), read.cut), (0, true), "out of time");
}

#[test]
fn lines_that_are_cut_short_are_skipped() {
    let line = "TCP 0A0C0102 E2E4 0A0C0164 0068 0A0C0101 0068 ESTABLISHED 898";
    assert!(entry(line).is_some());
    let words = line.split(' ').collect::<Vec<_>>();
    for length in 0..words.len() {
        assert_eq!(entry(&words[..length].join(" ")), None);
    }
}

#[test]
fn a_large_table_is_read() {
    let mut table = TABLE.lines().next().unwrap().to_owned() + "\n";
    for client in 0..100_000 {
        let client = 0x0a00_0000 + client;
        writeln!(table, "TCP {client:08X} E2E4 0A0C0164 0068 0A0C0101 0068 ESTABLISHED     898")
            .unwrap();
    }
    assert_eq!(collect(table.as_bytes(), 200_000, in_time).unwrap().entries.len(), 100_000);
}

proptest! {
    #[test]
    fn any_line_can_be_read(line in "[ -~]{0,120}") {
        let _ = entry(&line);
    }

    #[test]
    fn what_is_printed_is_read(client: (u32, u16), real: (u128, u16), mark: u32, expires: u32) {
        let address = Ipv6Addr::from(real.0).segments().map(|part| format!("{part:04x}")).join(":");
        let line = format!(
            "IP  {:08X} {:04X} {mark:08X} 0000 {address} {:04X} NONE {expires:15}",
            client.0, client.1, real.1,
        );
        let entry = entry(&line).unwrap();
        prop_assert_eq!(entry.client, (Ipv4Addr::from(client.0), client.1).into());
        prop_assert_eq!(entry.destination, (Ipv6Addr::from(real.0), real.1).into());
        prop_assert_eq!(entry.expires, Duration::from_secs(expires.into()));
        prop_assert_eq!(entry.mark(), (client.1 == 0).then_some(mark));
    }
}
