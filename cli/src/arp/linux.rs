//! Linux as a real server: at once, and for ever.

use std::fmt::Write;
use std::net::IpAddr;

use gantry_proto::v1;

use super::{Case, Way, gue_port, host};
use crate::names;

/// Where packets come out of their wrapping.
struct Device {
    name: &'static str,
    module: &'static str,
    /// What else makes it, before it is up.
    before: Option<String>,
}

pub(super) fn advise(text: &mut String, case: &Case<'_>) {
    for (over_ipv4, servers) in &case.servers {
        let device = device(case, *over_ipv4, servers);
        let whom = match case.servers.len() {
            1 => String::new(),
            _ => format!(", for {}", ids(servers)),
        };
        at_once(text, case, &device, &whom);
        for_ever(text, case, &device, &whom);
    }
    let address = with_length(case.address);
    let names: Vec<_> = case
        .servers
        .iter()
        .map(|(over_ipv4, servers)| device(case, *over_ipv4, servers).name)
        .collect();
    let _ = writeln!(text, "\nTo take it back on Linux");
    for name in names {
        let _ = writeln!(text, "  ip address delete {address} dev {name}");
    }
}

fn ids(servers: &[&v1::RealServer]) -> String {
    let ids: Vec<_> = servers.iter().map(|server| names::last(&server.name)).collect();
    ids.join(", ")
}

fn device(case: &Case<'_>, over_ipv4: bool, servers: &[&v1::RealServer]) -> Device {
    let inner_ipv4 = case.address.is_ipv4();
    let plain = |name, module| Device { name, module, before: None };
    match case.way {
        Way::Direct => plain("lo", ""),
        Way::Gre if over_ipv4 => plain("gre0", "ip_gre"),
        Way::Gre => plain("ip6gre0", "ip6_gre"),
        Way::Ipip | Way::Gue(_) => {
            let wrapped = match (over_ipv4, inner_ipv4) {
                (true, true) => plain("tunl0", "ipip"),
                (true, false) => plain("sit0", "sit"),
                (false, false) => plain("ip6tnl0", "ip6_tunnel"),
                (false, true) => {
                    let own = servers.first().map_or("ADDRESS", |server| host(server));
                    let own = if servers.len() > 1 { "ADDRESS" } else { own };
                    let add = format!(
                        "ip link add gantry4in6 type ip6tnl mode ipip6 local {own} remote any"
                    );
                    Device { before: Some(add), ..plain("gantry4in6", "ip6_tunnel") }
                }
            };
            match case.way {
                Way::Gue(port) => {
                    Device { before: Some(receive(port, over_ipv4, &wrapped)), ..wrapped }
                }
                _ => wrapped,
            }
        }
    }
}

/// The port on which GUE is unwrapped before the device sees it.
fn receive(port: i32, over_ipv4: bool, device: &Device) -> String {
    let family = if over_ipv4 { "" } else { "-6 " };
    let add = format!("ip {family}fou add port {} gue", gue_port(port));
    match &device.before {
        Some(before) => format!("{before}\n{add}"),
        None => add,
    }
}

fn with_length(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    }
}

/// What is set before the address is there, so that not one question is answered.
fn settings(case: &Case<'_>, device: &Device) -> Vec<String> {
    if case.address.is_ipv6() {
        return Vec::new();
    }
    let mut settings = vec![
        "net.ipv4.conf.all.arp_ignore=1".to_owned(),
        "net.ipv4.conf.all.arp_announce=2".to_owned(),
    ];
    if !matches!(case.way, Way::Direct) {
        settings.push("net.ipv4.conf.all.rp_filter=0".to_owned());
        settings.push(format!("net.ipv4.conf.{}.rp_filter=0", device.name));
    }
    settings
}

/// The commands after modules and settings.
fn commands(case: &Case<'_>, device: &Device) -> Vec<String> {
    let mut commands: Vec<String> =
        device.before.iter().flat_map(|before| before.lines()).map(str::to_owned).collect();
    if !matches!(case.way, Way::Direct) {
        commands.push(format!("ip link set {} up", device.name));
    }
    let (address, name) = (with_length(case.address), device.name);
    commands.push(match case.address {
        IpAddr::V4(_) => format!("ip address add {address} dev {name}"),
        IpAddr::V6(_) => format!("ip -6 address add {address} dev {name} nodad preferred_lft 0"),
    });
    commands
}

/// Whether another service may have done it already.
fn shared(command: &str) -> bool {
    command.contains(" fou add ") || command.starts_with("ip link add ")
}

fn modules(case: &Case<'_>, device: &Device) -> Vec<&'static str> {
    let gue = matches!(case.way, Way::Gue(_)).then_some("fou");
    gue.into_iter().chain([device.module]).filter(|module| !module.is_empty()).collect()
}

fn at_once(text: &mut String, case: &Case<'_>, device: &Device, whom: &str) {
    let _ = writeln!(text, "\nLinux, at once, as root{whom}");
    for module in modules(case, device) {
        let _ = writeln!(text, "  modprobe {module}");
    }
    let commands = commands(case, device);
    let (last, first) = commands.split_last().expect("the address is added");
    // The device's settings are there when the device is.
    for command in first {
        let _ = writeln!(text, "  {command}");
    }
    for setting in settings(case, device) {
        let _ = writeln!(text, "  sysctl -w {setting}");
    }
    let _ = writeln!(text, "  {last}");
    text.push_str(match (case.address, case.way) {
        (IpAddr::V6(_), _) => IPV6,
        (IpAddr::V4(_), Way::Direct) => ARP,
        (IpAddr::V4(_), _) => ARP_AND_FILTER,
    });
}

const IPV6: &str =
    "      Linux answers neighbour discovery only for addresses of the interface that is asked, so
      nothing has to be set against it. preferred_lft 0 keeps the address from being used for
      connections that the server opens itself.
";

const ARP: &str = "      arp_ignore=1 answers ARP only for addresses of the interface that is asked, arp_announce=2
      never names the virtual address when the server itself asks. They come before the address.
";

const ARP_AND_FILTER: &str = "      arp_ignore=1 and arp_announce=2 keep the address out of ARP. What comes out of the tunnel is
      answered by another way, which rp_filter would refuse; of `all` and the device's own the
      larger one counts, and other interfaces keep their own.
";

fn for_ever(text: &mut String, case: &Case<'_>, device: &Device, whom: &str) {
    let _ = writeln!(text, "\nLinux, for ever{whom}");
    let settings = settings(case, device);
    if !settings.is_empty() {
        let _ = writeln!(text, "  /etc/sysctl.d/60-gantry.conf:");
        for setting in settings {
            let _ = writeln!(text, "      {}", setting.replacen('=', " = ", 1));
        }
    }
    let modules = modules(case, device);
    if !modules.is_empty() {
        let _ = writeln!(text, "  /etc/modules-load.d/gantry.conf:");
        for module in modules {
            let _ = writeln!(text, "      {module}");
        }
    }
    match case.way {
        Way::Direct => networkd(text, case),
        _ => unit(text, case, device),
    }
    let _ = writeln!(
        text,
        "  - with /etc/network/interfaces (Debian), below \"iface lo inet loopback\":"
    );
    for command in commands(case, device) {
        let _ =
            writeln!(text, "      up {command}{}", if shared(&command) { " || true" } else { "" });
    }
    if matches!(case.way, Way::Direct) {
        network_manager(text, case);
    }
}

/// A drop-in for each service: of files for one interface only the first counts.
fn networkd(text: &mut String, case: &Case<'_>) {
    let Case { id, address, .. } = case;
    let _ = write!(
        text,
        "  and one of\n  - with systemd-networkd, /etc/systemd/network/10-gantry-lo.network:\n      \
         [Match]\n      Name=lo\n    /etc/systemd/network/10-gantry-lo.network.d/{id}.conf:\n      \
         [Address]\n      Address={}\n",
        with_length(*address)
    );
    if address.is_ipv6() {
        let _ = writeln!(text, "      DuplicateAddressDetection=none\n      PreferredLifetime=0");
    }
    let _ = writeln!(text, "    networkctl reload && networkctl reconfigure lo");
}

fn network_manager(text: &mut String, case: &Case<'_>) {
    let address = with_length(case.address);
    let (own, other) = match case.address {
        IpAddr::V4(_) => ("ipv4", "ipv6"),
        IpAddr::V6(_) => ("ipv6", "ipv4"),
    };
    let _ = write!(
        text,
        "  - with NetworkManager (Red Hat, SUSE), on an interface of its own that no cable is at:\n      \
         nmcli connection add type dummy ifname gantry0 con-name gantry {own}.method manual \\\n        \
         {own}.addresses {address} {other}.method disabled\n    \
         and for each further service\n      \
         nmcli connection modify gantry +{own}.addresses {address} && nmcli connection up gantry\n"
    );
}

/// Tunnels come up the same way under every network service.
fn unit(text: &mut String, case: &Case<'_>, device: &Device) {
    let id = case.id;
    let _ = write!(
        text,
        "  and one of\n  - with systemd, /etc/systemd/system/gantry-{id}.service:\n      \
         [Unit]\n      After=network-pre.target\n      \
         [Service]\n      Type=oneshot\n      RemainAfterExit=yes\n"
    );
    for command in commands(case, device) {
        let _ =
            writeln!(text, "      ExecStart={}{command}", if shared(&command) { "-" } else { "" });
    }
    let _ = write!(
        text,
        "      [Install]\n      WantedBy=multi-user.target\n    \
         systemctl enable --now gantry-{id}.service\n"
    );
}
