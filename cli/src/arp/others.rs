//! Other systems than Linux as real servers. They take packets as clients sent them, and no tunnels.

use std::fmt::Write;
use std::net::IpAddr;

use super::{Case, System, Way};

pub(super) fn advise(text: &mut String, case: &Case<'_>, system: System) {
    if !matches!(case.way, Way::Direct) {
        let _ = write!(
            text,
            "\n{} has no device that unwraps these packets\n  \
             Use method DR where the real servers are in the appliance's network, else SNAT.\n",
            title(system)
        );
        return;
    }
    match system {
        System::Windows => windows(text, case),
        System::MacOs => macos(text, case),
        System::FreeBsd => freebsd(text, case),
        System::Solaris | System::Linux => solaris(text, case),
    }
}

fn title(system: System) -> &'static str {
    match system {
        System::Linux => "Linux",
        System::Windows => "Windows",
        System::MacOs => "macOS",
        System::FreeBsd => "FreeBSD",
        System::Solaris => "Solaris",
    }
}

/// Address, length of its prefix, and the word for its family.
fn of(case: &Case<'_>) -> (IpAddr, u8, &'static str) {
    match case.address {
        IpAddr::V4(_) => (case.address, 32, "ipv4"),
        IpAddr::V6(_) => (case.address, 128, "ipv6"),
    }
}

fn windows(text: &mut String, case: &Case<'_>) {
    let (address, length, family) = of(case);
    let mask = if length == 32 { " (mask 255.255.255.255)" } else { "" };
    let _ = write!(
        text,
        "
Windows, for ever
  1. An adapter that no cable is at, once for all services: run hdwwiz.exe, choose the hardware
     from a list, Network adapters, Microsoft, Microsoft KM-TEST Loopback Adapter.
  2. In PowerShell, as administrator. LAN is the adapter that the appliance reaches the server by:
      $LAN = 'Ethernet'
      $loopback = Get-NetAdapter -InterfaceDescription '*KM-TEST Loopback*' | Select-Object -First 1
      if ($loopback.Name -ne 'gantry') {{ Rename-NetAdapter -Name $loopback.Name -NewName gantry }}
      Get-NetAdapterBinding -Name gantry |
        Where-Object ComponentID -NotIn ms_tcpip, ms_tcpip6 | Disable-NetAdapterBinding
      Set-DnsClient -InterfaceAlias gantry -RegisterThisConnectionsAddress $false
      Set-NetIPInterface -InterfaceAlias gantry -InterfaceMetric 254
      New-NetIPAddress -InterfaceAlias gantry -IPAddress {address} -PrefixLength {length} `
        -SkipAsSource $true
      netsh interface {family} set interface $LAN weakhostreceive=enabled weakhostsend=enabled
      netsh interface {family} set interface gantry weakhostreceive=enabled weakhostsend=enabled
     The address stands alone{mask}, without a gateway, and is not
     registered in DNS. Nothing but TCP/IP is bound to the adapter: no file sharing, no Network Load
     Balancing. The weak host model lets packets for it in by the LAN adapter and answers out there.
     Windows answers for an address only on the adapter that has it, so nobody hears of it in the
     network. All of this outlasts a restart.
  3. Let the firewall pass {ports} for {address}.

To take it back on Windows
      Remove-NetIPAddress -InterfaceAlias gantry -IPAddress {address} -Confirm:$false
",
        ports = case.ports
    );
}

fn macos(text: &mut String, case: &Case<'_>) {
    let (address, length, _) = of(case);
    let id = case.id;
    let arguments = match address {
        IpAddr::V4(_) => format!("lo0 alias {address} 255.255.255.255"),
        IpAddr::V6(_) => format!("lo0 inet6 {address} prefixlen {length} alias"),
    };
    let _ = write!(
        text,
        "
macOS, at once
  sudo ifconfig {arguments}
      macOS answers for an address only on the interface that has it.

macOS, for ever
  /Library/LaunchDaemons/gantry.{id}.plist, owned by root:
      <?xml version=\"1.0\" encoding=\"UTF-8\"?>
      <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\"
        \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">
      <plist version=\"1.0\"><dict>
        <key>Label</key><string>gantry.{id}</string>
        <key>RunAtLoad</key><true/>
        <key>ProgramArguments</key><array>
          <string>/sbin/ifconfig</string>
"
    );
    for argument in arguments.split(' ') {
        let _ = writeln!(text, "          <string>{argument}</string>");
    }
    let family = if length == 32 { "" } else { " inet6" };
    let _ = write!(
        text,
        "        </array>
      </dict></plist>
  sudo launchctl load -w /Library/LaunchDaemons/gantry.{id}.plist

To take it back on macOS
  sudo ifconfig lo0{family} {address} -alias
"
    );
}

fn freebsd(text: &mut String, case: &Case<'_>) {
    let (address, length, _) = of(case);
    let family = if length == 32 { "inet" } else { "inet6" };
    let _ = write!(
        text,
        "
FreeBSD, at once, as root
  ifconfig lo0 {family} {address}/{length} alias
      FreeBSD answers for an address only on the interface that has it. Packets for it come in
      by another one, so net.inet.ip.rfc1122_strong_es (before version 14:
      net.inet.ip.check_interface) stays 0, as it comes.

FreeBSD, for ever
  sysrc ifconfig_lo0_aliases+=\" {family} {address}/{length}\"

To take it back on FreeBSD
  ifconfig lo0 {family} {address} -alias
  sysrc ifconfig_lo0_aliases-=\" {family} {address}/{length}\"
"
    );
}

fn solaris(text: &mut String, case: &Case<'_>) {
    let (address, length, family) = of(case);
    let object: String = case.id.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    let _ = write!(
        text,
        "
Solaris 11, at once and for ever, as root
  ipadm set-prop -p hostmodel=weak {family}
  ipadm create-addr -T static -a {address}/{length} lo0/gantry{object}
      Solaris answers for an address only on the interface that has it; with the weak host model
      packets for it may come in by another one.
"
    );
    if length == 32 {
        let _ = write!(
            text,
            "
Solaris 10, as root
  ifconfig lo0 addif {address} netmask 255.255.255.255 up
  echo 'addif {address} netmask 255.255.255.255 up' >> /etc/hostname.lo0
"
        );
    }
    let _ = write!(
        text,
        "
To take it back on Solaris
  ipadm delete-addr lo0/gantry{object}
"
    );
}
