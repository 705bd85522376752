//! The search space against the figures that the paper and its cost convention give.

use engine::space::{Arch, Budget, Metric, Space};

fn arch(id: &str) -> Arch {
    id.parse().unwrap()
}

#[test]
fn golden_costs() {
    let space = Space::preset("data").unwrap();
    assert_eq!(space.min(), arch("s32-w48.96.192.384-d2.2.5.2"));
    assert_eq!(space.max(), arch("s64-w80.160.320.640-d4.6.29.4"));
    for (id, macs, conv, params) in [
        ("s32-w48.96.192.384-d2.2.5.2", 1_665_441_792, 9_703_008, 9_733_024),
        ("s64-w80.160.320.640-d4.6.29.4", 15_512_010_752, 84_617_408, 84_784_576),
        ("s64-w64.128.256.512-d3.4.6.3", 4_087_136_256, 23_454_912, 23_508_032),
    ] {
        let cost = space.cost(&arch(id));
        assert_eq!((cost.macs, cost.conv_params, cost.params), (macs, conv, params), "{id}");
    }
}

#[test]
fn every_architecture_is_counted() {
    let space = Space::preset("data").unwrap();
    assert_eq!((space.count(), space.enumerate().count()), (85_293, 85_293));
    let groups = space.default_groups(Metric::Macs).unwrap();
    assert_eq!((groups[0].to_string(), groups.len()), ("1G..2G".to_owned(), 15));
    let counts = space.count_groups(&groups).unwrap();
    let golden =
        [34, 1986, 8597, 14504, 15651, 12033, 9142, 7566, 5245, 3680, 3212, 2459, 986, 189, 9];
    assert_eq!(counts, golden);
}

#[test]
fn enumeration_is_the_whole_grid_in_order() {
    for name in engine::space::presets::NAMES {
        let space = Space::preset(name).unwrap();
        let all: Vec<Arch> = space.enumerate().collect();
        assert_eq!((all[0], all[all.len() - 1]), (space.min(), space.max()));
        assert!(all.windows(2).all(|w| w[0] < w[1]) && all.iter().all(|a| space.on_grid(a)));
        let groups = space.default_groups(Metric::Macs).unwrap();
        assert_eq!(space.count_groups(&groups).unwrap().iter().sum::<usize>(), space.count());
    }
}

#[test]
fn off_grid_inside_the_maximum_is_accepted() {
    let space = Space::preset("data").unwrap();
    let r50 = arch("s64-w64.128.256.512-d3.4.6.3");
    assert!(space.contains(&r50) && !space.on_grid(&r50) && space.check(&r50).is_ok());
    for (id, says) in [
        ("s80-w64.128.256.512-d3.4.6.3", "stem width is 80"),
        ("s64-w64.128.256.768-d3.4.6.3", "width of stage 4 is 768"),
        ("s64-w64.128.256.512-d3.4.30.3", "depth of stage 3 is 30, expected 1 to 29"),
    ] {
        let e = space.check(&arch(id)).unwrap_err();
        assert!(e.exit_code() == 2 && e.to_string().contains(says), "{e}");
        assert!(!space.contains(&arch(id)));
    }
}

#[test]
fn a_single_net_is_a_space() {
    let data = Space::preset("data").unwrap();
    let r50 = arch("s64-w64.128.256.512-d3.4.6.3");
    let one = data.single(&r50);
    assert_eq!((one.count(), one.min(), one.max()), (1, r50, r50));
    assert_eq!(one.cost(&r50), data.cost(&r50));
}

#[test]
fn budgets() {
    let parse = |s| Budget::parse(s, Metric::Macs);
    let b = parse("3G..4.5G").unwrap();
    assert_eq!((b.lo, b.hi, b.to_string().as_str()), (3_000_000_000, 4_500_000_000, "3G..4.5G"));
    assert!(b.contains(b.lo) && !b.contains(b.hi));
    assert_eq!(parse("500M..1000000000").unwrap().to_string(), "500M..1G");
    assert_eq!(Budget::parse("1.5ms..2ms", Metric::Latency).unwrap().lo, 1_500_000);
    for bad in ["3G", "4G..3G", "3G..3G", "a..b", "-1G..2G", "1..1e30", "..", "3X..4X", "1.2.3..5"]
    {
        assert_eq!(parse(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
    assert_eq!(Budget::parse("1..2", Metric::Latency).unwrap_err().exit_code(), 2);
    let groups = Budget::parse_groups("1G..8G:1G", Metric::Macs).unwrap();
    assert_eq!((groups.len(), groups[6].to_string()), (7, "7G..8G".to_owned()));
    for bad in ["1G..8G", "1G..8G:0", "1G..8G:1", "8G..1G:1G"] {
        assert_eq!(Budget::parse_groups(bad, Metric::Macs).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn an_impossible_budget_names_the_range() {
    let space = Space::preset("data").unwrap();
    let e = space.within(&"20G..30G".parse().unwrap()).unwrap_err();
    let text = e.to_string();
    assert!(e.exit_code() == 2 && text.contains("1.67 G") && text.contains("15.5 G"), "{text}");
}

#[test]
fn architecture_ids_round_trip() {
    let id = "s32-w48.96.192.512-d2.2.5.2";
    assert_eq!(arch(id).to_string(), id);
    for bad in [
        "",
        "s32",
        "s32-w48.96.192-d2.2.5.2",
        "s0-w48.96.192.512-d2.2.5.2",
        "s32-w48.96.192.512-d2.2.5.2-x",
    ] {
        assert_eq!(bad.parse::<Arch>().unwrap_err().exit_code(), 2, "{bad}");
    }
}
