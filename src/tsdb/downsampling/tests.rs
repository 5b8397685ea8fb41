//! The plan, without a disk.

use super::*;

const H: i64 = 3_600_000;
const D: i64 = 24 * H;
/// A day in 2026, at midnight.
const NOW: i64 = 20_700 * D;

fn block(ulid: &str, start: i64, end: i64, resolution_ms: i64, sources: &[&str]) -> StoredBlock {
    let mut meta = BlockMeta::new(ulid.to_string(), start, end);
    if resolution_ms > 0 {
        meta = meta.downsampled(ulid.to_string(), resolution_ms);
    }
    meta.compaction.sources = sources.iter().map(|s| s.to_string()).collect();
    StoredBlock { meta, dir: PathBuf::from(ulid), bytes: 10 }
}

fn situation(blocks: Vec<StoredBlock>, tiers: Option<Tiers>) -> Situation {
    Situation { blocks, now_ms: NOW, tiers, merges: true, ..Situation::default() }
}

/// How many blocks of five minutes hold what a raw block holds.
fn covering(situation: &Situation, block: &StoredBlock) -> Option<usize> {
    let coarser = situation.sound(M5, &situation.timeline());
    situation.covering(&block.meta, &coarser).map(|blocks| blocks.len())
}

/// A step in one line.
fn line(step: &Step) -> String {
    let names =
        |blocks: &[StoredBlock]| blocks.iter().map(|b| b.meta.ulid.clone()).collect::<Vec<_>>().join("+");
    match step {
        Step::Make { resolution_ms, from, replaces, .. } => {
            let word = if step.is_merge() { "merge" } else { "make" };
            let mut line = format!("{word} {} of {}", resolution_name(*resolution_ms), names(from));
            if !step.is_merge() && !replaces.is_empty() {
                line += &format!(" for {}", names(replaces));
            }
            line
        }
        Step::Remove { block, .. } => format!("remove {}", block.meta.ulid),
    }
}

fn steps(situation: &Situation) -> Vec<String> {
    situation.simulate().iter().map(line).collect()
}

const M5: i64 = FIVE_MINUTES_MS;
const H1: i64 = ONE_HOUR_MS;

#[test]
fn blocks_are_due_by_age_or_by_length() {
    let s = situation(
        vec![
            block("a", NOW - 50 * H, NOW - 40 * H, 0, &["a"]),
            block("b", NOW - 40 * H, NOW - 40 * H + 1, 0, &["b"]),
            block("c", NOW - 2 * H, NOW, 0, &["c"]),
        ],
        None,
    );
    assert_eq!(steps(&s), ["make 5m of a"]);
    let s = situation(vec![block("long", NOW - 20 * D, NOW, 0, &["long"])], None);
    assert_eq!(steps(&s), ["make 5m of long", "make 1h of step 1"]);
    let s = situation(vec![block("future", NOW + D, NOW + 20 * D, 0, &["x"])], None);
    assert_eq!(steps(&s), [""; 0]);
}

#[test]
fn what_is_covered_by_its_sources_is_not_made_again() {
    // Merged since; merged and the others gone; downsampled and merged there.
    for raw in [vec!["a", "b"], vec!["a"], vec!["b"]] {
        let s = situation(
            vec![
                block("r", NOW - 60 * H, NOW - 50 * H, 0, &raw),
                block("n", NOW - 2 * H, NOW, 0, &["n"]),
                block("d", NOW - 60 * H, NOW - 50 * H, M5, &["a", "b"]),
            ],
            None,
        );
        assert_eq!(steps(&s), [""; 0], "{raw:?}");
    }
    let s = situation(
        vec![
            block("r", NOW - 60 * H, NOW - 50 * H, 0, &["a", "b"]),
            block("n", NOW - 2 * H, NOW, 0, &["n"]),
            block("d1", NOW - 60 * H, NOW - 55 * H, M5, &["a"]),
            block("d2", NOW - 55 * H, NOW - 50 * H, M5, &["b"]),
        ],
        None,
    );
    assert_eq!(steps(&s), [""; 0]);
}

#[test]
fn late_samples_have_their_range_made_anew() {
    let new = block("n", NOW - 2 * H, NOW, 0, &["n"]);
    // Merged into the raw block already, and still beside it.
    let s = situation(
        vec![
            block("r", NOW - 60 * H, NOW - 50 * H, 0, &["a", "late"]),
            new.clone(),
            block("d", NOW - 60 * H, NOW - 50 * H, M5, &["a"]),
        ],
        None,
    );
    assert_eq!(steps(&s), ["make 5m of r for d"]);
    let [Step::Make { meta, .. }] = &s.next_steps()[..] else { panic!() };
    assert_eq!(meta.compaction.parents[0].ulid, "d");
    assert_eq!(meta.compaction.sources, ["a", "late"]);
    let s = situation(
        vec![
            block("a", NOW - 60 * H, NOW - 50 * H, 0, &["a"]),
            block("late", NOW - 56 * H, NOW - 54 * H, 0, &["late"]),
            new.clone(),
            block("d", NOW - 60 * H, NOW - 50 * H, M5, &["a"]),
        ],
        None,
    );
    assert_eq!(steps(&s), ["make 5m of a+late for d"]);
    // The downsampled block is longer than the raw ones that are late.
    let s = situation(
        vec![
            block("a", NOW - 60 * H, NOW - 58 * H, 0, &["a", "late"]),
            block("b", NOW - 58 * H, NOW - 56 * H, 0, &["b"]),
            new.clone(),
            block("d", NOW - 60 * H, NOW - 56 * H, M5, &["a", "b"]),
        ],
        None,
    );
    assert_eq!(steps(&s), ["make 5m of a+b for d"]);
    // And one of its raw blocks is gone: nothing is lost, nothing doubled.
    let s = situation(
        vec![
            block("a", NOW - 60 * H, NOW - 58 * H, 0, &["a", "late"]),
            new,
            block("d", NOW - 60 * H, NOW - 56 * H, M5, &["a", "b"]),
        ],
        Some(Tiers { raw_ms: 50 * H, ..Tiers::default() }),
    );
    assert_eq!(steps(&s), [""; 0]);
    let kept = s.kept_back();
    assert_eq!((kept.len(), &*kept[0].block.meta.ulid, &*kept[0].beside), (1, "a", "d"));
}

#[test]
fn what_is_kept_back_is_said_once() {
    let s = situation(
        vec![
            block("x", NOW - 60 * H, NOW - 58 * H, 0, &["x"]),
            block("y", NOW - 58 * H, NOW - 56 * H, 0, &["y"]),
            block("d", NOW - 60 * H, NOW - 56 * H, M5, &["gone"]),
            block("n", NOW - 2 * H, NOW, 0, &["n"]),
        ],
        None,
    );
    assert_eq!(steps(&s), [""; 0]);
    let kept: Vec<_> = s.kept_back().into_iter().map(|k| (k.block.meta.ulid, k.beside)).collect();
    assert_eq!(kept, ["x", "y"].map(|late| (late.to_string(), "d".to_string())));
}

#[test]
fn short_blocks_are_merged_when_their_range_is_full() {
    let mut blocks: Vec<_> = (0..24)
        .map(|i| {
            let name = format!("{i:02}");
            let start = NOW - 5 * D + i * 2 * H;
            block(&name, start, start + 2 * H, 0, &[&*name])
        })
        .collect();
    blocks.push(block("n", NOW - 2 * H, NOW, 0, &["n"]));
    let s = situation(blocks, None);
    let steps = steps(&s);
    assert_eq!(steps.iter().filter(|s| s.starts_with("make 5m")).count(), 24);
    assert!(steps.iter().any(|s| s.starts_with("merge 5m of ")), "{steps:?}");
    // In the end each sample is in one block.
    let mut end = s.clone();
    end.blocks.clear();
    for (n, step) in s.simulate().into_iter().enumerate() {
        if let Step::Make { meta, replaces, .. } = step {
            end.blocks.retain(|b| !replaces.iter().any(|r| r.meta.ulid == b.meta.ulid));
            let meta = BlockMeta { ulid: format!("step {}", n + 1), ..*meta };
            end.blocks.push(StoredBlock { meta, dir: PathBuf::new(), bytes: 0 });
        }
    }
    let mut all: Vec<&str> = end.blocks.iter().flat_map(|b| sources(&b.meta)).collect();
    all.sort_unstable();
    assert_eq!(all, (0..24).map(|i| format!("{i:02}")).collect::<Vec<_>>());
    assert!(end.blocks.len() < 10);
    let s = Situation { merges: false, ..s };
    assert_eq!(s.simulate().len(), 24);
}

#[test]
fn a_tier_ends_only_where_the_next_one_goes_on() {
    let tiers = Some(Tiers::SINGLE_NODE);
    let days = |from: i64, to: i64| {
        block(&format!("r{from}"), NOW - from * D, NOW - to * D, 0, &[&*format!("r{from}")])
    };
    let raw = |n: i64| days(n, n - 1);
    let s = situation(vec![days(30, 15), raw(15), days(14, 1), raw(1)], tiers);
    assert_eq!(
        steps(&s),
        [
            "make 5m of r30",
            "make 5m of r15",
            "make 5m of r14",
            "make 1h of step 1",
            "make 1h of step 2",
            "make 1h of step 3",
            "remove r30",
            "remove r15"
        ]
    );
    // Nothing goes that was held back, or without tiers.
    let held = Situation { held: HashSet::from(["r30".to_string()]), ..s.clone() };
    assert!(!steps(&held).iter().any(|s| s == "remove r30"));
    let kept = Situation { tiers: None, ..s };
    assert!(!steps(&kept).iter().any(|s| s.starts_with("remove")));
    // A part is missing.
    let mut half = block("h", NOW - 30 * D, NOW - 29 * D, M5, &["x"]);
    let mut whole = block("r", NOW - 30 * D, NOW - 29 * D, 0, &["x", "y"]);
    let s = situation(vec![whole.clone(), half.clone(), raw(1)], tiers);
    assert!(covering(&s, &whole).is_none());
    half.meta.compaction.sources.push("y".to_string());
    let s = situation(vec![whole.clone(), half.clone(), raw(1)], tiers);
    assert_eq!(covering(&s, &whole).unwrap(), 1);
    // Of another producer.
    whole.meta.thanos = Some(tsdbctl_block::meta::Thanos {
        labels: BTreeMap::from([("a".to_string(), "b".to_string())]),
        ..Default::default()
    });
    assert!(covering(&s, &whole).is_none());
    // Long ago, in windows.
    let s = situation(
        vec![
            block("m", NOW - 100 * D, NOW - 91 * D, M5, &["x"]),
            block("h", NOW - 100 * D, NOW - 91 * D, H1, &["x"]),
            block("o", NOW - 400 * D, NOW - 366 * D, H1, &["o"]),
            raw(1),
        ],
        // No gap here is longer than what would be elapsed time.
        Some(Tiers { five_minutes_ms: 90 * D, one_hour_ms: 0, raw_ms: 0 }),
    );
    assert_eq!(steps(&s), [""; 0], "the gap of 90 days is no elapsed time");
}

#[test]
fn a_block_from_the_future_makes_nothing_old() {
    let s = situation(
        vec![
            block("a", NOW - 10 * H, NOW - 2 * H, 0, &["a"]),
            block("f", NOW + 400 * D, NOW + 401 * D, 0, &["f"]),
        ],
        Some(Tiers::SINGLE_NODE),
    );
    assert_eq!(steps(&s), [""; 0]);
}

#[test]
fn no_merge_reaches_across_a_gap() {
    // A range of 18 h, in which blocks may be missing.
    let start = (NOW - 20 * D).div_euclid(18 * H) * 18 * H;
    for (hours, want) in [
        (vec![(0, 6), (8, 12), (12, 18)], &["merge 5m of 0+8+12"][..]),
        (vec![(0, 6), (9, 12), (12, 18)], &["merge 5m of 9+12"]),
        (vec![(0, 6), (12, 18)], &[]),
    ] {
        let name = |from: i64| from.to_string();
        let of = |(from, to): (i64, i64)| {
            block(&name(from), start + from * H, start + to * H, M5, &[&*name(from)])
        };
        let mut blocks: Vec<_> = hours.iter().copied().map(of).collect();
        blocks.push(block("n", NOW - 2 * H, NOW, 0, &["n"]));
        let mut merges = steps(&situation(blocks, None));
        merges.retain(|step| step.starts_with("merge 5m"));
        assert_eq!(merges, want, "{hours:?}");
    }
}

#[test]
fn tiers_are_read_from_text() {
    let day = D;
    for (text, want) in [
        ("default", Ok(Tiers::SINGLE_NODE)),
        ("raw=14d,5m=90d,1h=1y", Ok(Tiers::SINGLE_NODE)),
        ("1h=1y, raw=2w", Ok(Tiers { raw_ms: 14 * day, five_minutes_ms: 0, one_hour_ms: 365 * day })),
        ("raw=0s", Ok(Tiers::default())),
        ("raw", Err("\"raw\" is not NAME=DURATION with raw, 5m or 1h as NAME")),
        ("10m=1d", Err("\"10m=1d\" is not NAME=DURATION with raw, 5m or 1h as NAME")),
        ("raw=1d,raw=2d", Err("raw is there twice")),
        (
            "raw=2d,1h=1d",
            Err("1h is kept for less time than raw, so that samples would be gone between the two"),
        ),
    ] {
        let got = Tiers::parse(text).map_err(|e| e.to_string());
        assert_eq!(got.as_ref().map_err(String::as_str), want.as_ref().map_err(|e| *e), "{text}");
    }
    assert!(matches!(Tiers::parse("raw=x"), Err(TierError::Duration { .. })));
}

#[test]
fn many_short_blocks_are_planned() {
    // Slow in proportion to their square, this would take minutes.
    const N: i64 = 10_000;
    let mut blocks: Vec<_> = (1..=N)
        .map(|i| {
            let name = format!("{i:05}");
            block(&name, NOW - i * 2 * H, NOW - (i - 1) * 2 * H, 0, &[&*name])
        })
        .collect();
    // Late ones that overlap, in any order.
    for i in (40..N).step_by(7) {
        let name = format!("late {i:05}");
        blocks.insert(i as usize / 2, block(&name, NOW - i * 2 * H, NOW - i * 2 * H + H, 0, &[&*name]));
    }
    let s = situation(blocks, Some(Tiers { one_hour_ms: 0, ..Tiers::SINGLE_NODE }));
    let steps = s.simulate();
    let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|s| wanted(s)).count() as i64;
    // 20 blocks of 2 h are younger than 40 h, and 168 than 14 d.
    assert_eq!(
        count(|s| matches!(s, Step::Make { .. }) && !s.is_merge() && line(s).contains(" 5m ")),
        N - 20
    );
    assert_eq!(
        count(|s| matches!(s, Step::Remove { block, .. } if block.meta.resolution_ms() == 0)),
        N - 168 + (168..N).filter(|i| (i - 40) % 7 == 0).count() as i64
    );
}

#[test]
fn what_has_nothing_for_a_window_is_remembered_and_goes_with_its_tier() {
    let days = |from: i64, to: i64, name: &str| block(name, NOW - from * D, NOW - to * D, 0, &[name]);
    let blocks = vec![days(40, 30, "nan"), days(30, 15, "a"), days(15, 0, "n")];
    let mut s = situation(blocks, Some(Tiers::SINGLE_NODE));
    s.blocks[1].meta.compaction.sources.push("nan too".to_string());
    assert_eq!(steps(&s)[0], "make 5m of nan");
    s.without_windows = HashSet::from(["nan".to_string(), "nan too".to_string()]);
    assert_eq!(
        steps(&s),
        ["make 5m of a", "make 5m of n", "make 1h of step 1", "make 1h of step 2", "remove nan", "remove a"]
    );
    let why: Vec<_> = s
        .simulate()
        .into_iter()
        .filter_map(|s| match s {
            Step::Remove { why, relies_on, .. } => Some((why.to_string(), relies_on.len())),
            Step::Make { .. } => None,
        })
        .collect();
    let plain = "raw is kept for 2w".to_string();
    assert_eq!(
        why,
        [(format!("{plain}, and it has nothing but stale markers and not-a-numbers"), 0), (plain, 1)]
    );
    // Late samples joined it: these have to be looked at.
    s.blocks[0].meta.compaction.sources.push("late".to_string());
    assert_eq!(steps(&s)[0], "make 5m of nan");
}

#[test]
fn windows_of_an_hour_outlive_a_clock_that_is_wrong_for_a_while() {
    let tiers = Some(Tiers { one_hour_ms: 365 * D, ..Tiers::default() });
    let hours = |i: i64| block(&format!("h{i}"), NOW - (16 + i * 10) * D, NOW - (6 + i * 10) * D, H1, &["h"]);
    let fresh = block("n", NOW - 10 * D, NOW, 0, &["n"]);
    let without = |blocks: &[StoredBlock], now_ms: i64| {
        let s = Situation { now_ms, merges: false, ..situation(blocks.to_vec(), tiers) };
        let steps = s.simulate();
        let gone = |s: &Step| matches!(s, Step::Remove { block, .. } if block.meta.resolution_ms() == H1);
        steps.iter().filter(|s| gone(s)).map(line).collect::<Vec<_>>()
    };
    // The last one ends 366 days ago.
    let filled: Vec<_> = (0..=36).map(hours).chain([fresh]).collect();
    assert_eq!(without(&filled, NOW), ["remove h36"]);
    // A month ahead, a block was written there.
    for ahead in [D, 30 * D, 400 * D] {
        let mut wrong = filled.clone();
        wrong.push(block("w", NOW + ahead, NOW + ahead + 2 * H, 0, &["w"]));
        assert_eq!(without(&wrong, NOW + ahead + 2 * H), ["remove h36"], "{ahead}");
        // And it is right again.
        assert_eq!(without(&wrong, NOW), ["remove h36"], "{ahead}");
    }
}
