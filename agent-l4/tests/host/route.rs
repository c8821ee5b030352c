use std::net::IpAddr;
use std::time::Duration;

use gantry_agent_l4::host::route::{Held, PolicyRule, Route, RouteError, TAG, interface_for};
use gantry_agent_l4::ipvs::Family;

use crate::space::{FAR, NEAR, Pair, Space, eventually, interface, ip, local};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// How an address is held on `near`.
fn held(address: IpAddr) -> Option<Held> {
    interface(NEAR).addresses.into_iter().find(|held| held.address == address)
}

#[test]
fn interfaces_are_told_with_their_addresses() {
    let pair = Pair::new();
    pair.near.enter(|| {
        let near = interface(NEAR);
        assert!(near.up && near.running && !near.loopback);
        let shown = ip("link show near");
        let hardware = near.hardware.unwrap().map(|byte| format!("{byte:02x}")).join(":");
        assert!(shown.contains(&format!("link/ether {hardware}")), "{shown}");
        assert!(shown.starts_with(&format!("{}: near", near.index)), "{shown}");
        let own = Held { address: address("10.12.1.1"), prefix: 24, tag: None, valid_for: None };
        assert!(near.addresses.contains(&own), "{near:?}");
        let lo = interface("lo");
        assert!(lo.loopback && lo.hardware.is_none());

        let interfaces = Route::open().unwrap().interfaces().unwrap();
        for (address, name) in [
            ("10.12.1.100", Some(NEAR)),
            ("fd12::100", Some(NEAR)),
            ("10.12.2.1", None),
            ("127.12.1.100", None),
        ] {
            let found = interface_for(&interfaces, address.parse().unwrap());
            assert_eq!(found.map(|found| found.name.as_str()), name, "{address}");
        }
        ip("link set near down");
        assert!(!interface(NEAR).up && !interface(NEAR).running);
    });
    pair.far.enter(|| assert!(interface(FAR).up && !interface(FAR).running, "no carrier"));
}

#[test]
fn addresses_come_and_go() {
    Pair::new().near.enter(|| {
        let (index, mut route) = (interface(NEAR).index, Route::open().unwrap());
        for (address, prefix) in [(address("10.12.1.100"), 32), (address("fd12::100"), 128)] {
            assert!(!route.is_local(address).unwrap());
            // The second time it is there.
            for _ in 0..2 {
                route.add_address(index, address, None).unwrap();
                let there = Held { address, prefix, tag: Some(TAG), valid_for: None };
                assert_eq!(held(address), Some(there));
                local(&address.to_string());
            }
            // The second time it is gone.
            for _ in 0..2 {
                route.remove_address(index, address).unwrap();
                assert_eq!(held(address), None);
                assert!(!route.is_local(address).unwrap());
            }
        }
        // That the interface is gone makes no odds.
        route.remove_address(4711, address("10.12.1.100")).unwrap();
        route.remove_address(4711, address("fd12::100")).unwrap();
        let refused = route.add_address(4711, address("10.12.1.100"), None);
        assert!(matches!(refused, Err(RouteError::Refused { .. })), "{refused:?}");
    });
}

#[test]
fn an_address_bears_no_route_and_is_no_source() {
    Pair::new().near.enter(|| {
        let (index, mut route) = (interface(NEAR).index, Route::open().unwrap());
        route.add_address(index, address("10.99.0.1"), None).unwrap();
        route.add_address(index, address("fd99::1"), Some(Duration::from_secs(60))).unwrap();
        assert!(!ip("-4 route show").contains("10.99"));
        assert!(!ip("-6 route show").contains("fd99"));
        let shown = ip("-6 address show dev near to fd99::1");
        assert!(
            shown.contains("nodad deprecated") || shown.contains("deprecated nodad"),
            "{shown}"
        );
        assert!(shown.contains("noprefixroute"), "{shown}");
        assert!(!shown.contains("tentative"), "usable at once: {shown}");
    });
}

#[test]
fn a_lifetime_ends_unless_it_is_refreshed() {
    Pair::new().near.enter(|| {
        let (index, mut route) = (interface(NEAR).index, Route::open().unwrap());
        let both = [address("10.12.1.100"), address("fd12::100")];
        for address in both {
            route.add_address(index, address, Some(Duration::from_millis(59_001))).unwrap();
            assert!(matches!(held(address).unwrap().valid_for, Some(59 | 60)), "rounded up");
            route.add_address(index, address, None).unwrap();
            assert_eq!(held(address).unwrap().valid_for, None);
            route.add_address(index, address, Some(Duration::from_millis(1))).unwrap();
            assert!(held(address).unwrap().valid_for.is_some());
        }
        for address in both {
            eventually("the end of a lifetime", || held(address).is_none().then_some(()));
        }
    });
}

#[test]
fn addresses_of_others_stay_as_they_are() {
    Pair::new().near.enter(|| {
        let (index, mut route) = (interface(NEAR).index, Route::open().unwrap());
        let others = [(address("10.12.1.1"), 24), (address("fd12::1"), 64)];
        for (address, prefix) in others {
            let theirs = Held { address, prefix, tag: None, valid_for: None };
            route.add_address(index, address, Some(Duration::from_secs(1))).unwrap();
            assert!(interface(NEAR).addresses.contains(&theirs));
            route.remove_address(index, address).unwrap();
            assert!(interface(NEAR).addresses.contains(&theirs));
        }
    });
}

#[test]
fn local_is_what_this_machine_takes_itself() {
    Pair::new().near.enter(|| {
        let mut route = Route::open().unwrap();
        ip("route add blackhole 10.66.0.0/16");
        ip("route add prohibit 10.67.0.0/16");
        for (address, local) in [
            ("127.12.1.100", true),
            ("::1", true),
            ("10.12.1.1", true),
            ("fd12::1", true),
            ("10.12.1.2", false),
            ("fd12::2", false),
            ("10.12.1.255", false),
            ("224.0.0.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("10.66.0.1", false),
            ("10.67.0.1", false),
        ] {
            assert_eq!(route.is_local(address.parse().unwrap()).unwrap(), local, "{address}");
        }
    });
}

#[test]
fn neighbours_are_told() {
    Pair::new().near.enter(|| {
        ip("neigh replace 10.12.1.9 lladdr 02:00:00:00:00:09 dev near nud stale");
        ip("neigh replace fd12::9 lladdr 02:00:00:00:00:09 dev near nud permanent");
        let listed = Route::open().unwrap().neighbours().unwrap();
        for known in [address("10.12.1.9"), address("fd12::9")] {
            let neighbour = listed.iter().find(|neighbour| neighbour.address == known).unwrap();
            assert_eq!(neighbour.index, interface(NEAR).index);
            assert_eq!(neighbour.hardware, Some([2, 0, 0, 0, 0, 9]));
        }
        let multicast = |address: IpAddr| address.is_multicast();
        assert!(!listed.iter().any(|neighbour| multicast(neighbour.address)), "{listed:?}");
    });
}

#[test]
fn rules_that_select_by_mark_are_told() {
    Space::new().enter(|| {
        let mut route = Route::open().unwrap();
        assert_eq!(route.mark_rules().unwrap(), [], "the kernel's own select by nothing");
        ip("rule add fwmark 0x1/0xff table 100 priority 77");
        ip("-6 rule add fwmark 0x47000001 table 100 priority 78");
        ip("rule add from 10.0.0.0/8 table 100 priority 79");
        let rule = |family, priority, mark, mask| PolicyRule { family, priority, mark, mask };
        assert_eq!(
            route.mark_rules().unwrap(),
            [rule(Family::V4, 77, 1, 0xff), rule(Family::V6, 78, 0x4700_0001, 0xffff_ffff),]
        );
    });
}

#[test]
fn what_comes_back_has_a_rule_and_a_route_of_its_own() {
    Pair::new().near.enter(|| {
        let mut route = Route::open().unwrap();
        assert!(!route.has_return().unwrap());
        route.remove_return().unwrap();
        // The second time all is there.
        for _ in 0..2 {
            route.add_return().unwrap();
            assert!(route.has_return().unwrap());
        }
        for (version, nobodys) in [("-4", "198.51.100.7"), ("-6", "2001:db8::7")] {
            let rules = ip(&format!("{version} rule show"));
            assert_eq!(rules.matches("fwmark 0x47000000 lookup 1071").count(), 1, "{rules}");
            let led = ip(&format!("{version} route get {nobodys} mark 0x47000000"));
            assert!(led.starts_with("local "), "{led}");
        }
        ip("-4 route flush table 1071");
        assert!(!route.has_return().unwrap());
        route.add_return().unwrap();
        ip("-6 rule delete priority 1071");
        assert!(!route.has_return().unwrap());
        for _ in 0..2 {
            route.remove_return().unwrap();
            assert!(!route.has_return().unwrap());
        }
        let left = [ip("-4 rule show"), ip("-6 rule show"), ip("-4 route show table all")].concat();
        assert!(!left.contains("1071"), "{left}");
    });
}
