//! Plans against those of upstream: `plans.txt` has its answers.

use tsdbctl_block::BlockMeta;
use tsdbctl_block::meta::{HINT_OUT_OF_ORDER, HINT_SELECTED_SERIES, HINT_STALE_SERIES};
use tsdbctl_block::plan::{merged_meta, plan, plan_ahead};

fn block(line: &str) -> BlockMeta {
    let mut words = line.split(' ');
    let name = words.next().unwrap();
    let (start, end) = words.next().unwrap().split_once("..").unwrap();
    let mut meta = BlockMeta::new(name.to_string(), start.parse().unwrap(), end.parse().unwrap());
    meta.stats.num_series = 100;
    for word in words {
        match word {
            "failed" => meta.compaction.failed = true,
            "held" => {}
            "stale" => meta.compaction.hints.push(HINT_STALE_SERIES.to_string()),
            "selected" => meta.compaction.hints.push(HINT_SELECTED_SERIES.to_string()),
            "late" => meta.compaction.hints.push(HINT_OUT_OF_ORDER.to_string()),
            _ => {
                let (tombstones, series) = word.split_once('/').unwrap();
                meta.stats.num_tombstones = tombstones.parse().unwrap();
                meta.stats.num_series = series.parse().unwrap();
            }
        }
    }
    meta
}

/// The plan of a case, in letters.
fn answer(ranges: &str, blocks: &[&str]) -> String {
    let ranges: Vec<i64> = ranges.split(' ').map(|r| r.parse().unwrap()).collect();
    let metas: Vec<BlockMeta> = blocks.iter().map(|b| block(b)).collect();
    let held: Vec<&str> =
        blocks.iter().filter(|b| b.ends_with("held") || b.contains(" held ")).copied().collect();
    let is_held = |m: &BlockMeta| held.iter().any(|b| b.split(' ').next() == Some(&m.ulid));
    let found = plan(&metas.iter().collect::<Vec<_>>(), &ranges, &is_held);
    found.iter().map(|i| metas[*i].ulid.as_str()).collect::<Vec<_>>().join(" ")
}

#[test]
fn plans_are_those_of_upstream() {
    let text = include_str!("plans.txt");
    let (mut ranges, mut blocks, mut cases) = ("", Vec::new(), 0);
    for (n, line) in text.lines().enumerate() {
        if let Some(r) = line.strip_prefix("ranges ") {
            (ranges, blocks) = (r, Vec::new());
        } else if let Some(want) = line.strip_prefix('=') {
            assert_eq!(answer(ranges, &blocks), want.trim(), "line {}: {blocks:?}", n + 1);
            cases += 1;
        } else if !line.is_empty() && !line.starts_with('#') {
            blocks.push(line);
        }
    }
    assert!(cases >= 40, "{cases} cases");
}

#[test]
fn plans_of_chosen_cases() {
    for (what, blocks, want) in [
        ("nothing to do with nothing", vec![], ""),
        ("a lone block is the newest", vec!["a 0..20 99/100"], ""),
        ("two make no range as long as the newest follows", vec!["a 0..20", "b 20..40", "c 40..60"], ""),
        (
            "the newest may have its range full behind it",
            vec!["a 0..20", "b 20..40", "c 40..60", "d 60..80"],
            "a b c",
        ),
        ("a range with a gap, and a block behind it", vec!["a 0..20", "b 40..60", "c 60..80"], "a b"),
        ("a range that is not full, but over", vec!["a 0..20", "b 20..40", "c 60..80", "d 80..100"], "a b"),
        (
            "longer ranges of shorter ones",
            vec!["a 0..60", "b 60..120", "c 120..180", "d 180..200", "e 200..220"],
            "a b c",
        ),
        (
            "shorter ranges first",
            vec!["a 0..60", "b 60..120", "c 120..140", "d 140..160", "e 180..200", "f 200..220"],
            "c d",
        ),
        ("what lies across two ranges stays", vec!["a 0..20", "b 50..70", "c 70..90", "d 120..140"], ""),
        (
            "overlapping ones first, as many as there are in a run",
            vec!["a 0..20", "b 10..30", "c 25..40", "d 40..60", "e 55..80"],
            "a b c",
        ),
        ("one inside of another", vec!["a 0..100", "b 20..40", "c 90..110", "d 110..130"], "a b c"),
        ("the newest counts among overlapping ones", vec!["a 0..20", "b 19..40"], "a b"),
        (
            "a failed one keeps its range back, not others",
            vec![
                "a 0..20",
                "b 20..40 failed",
                "c 40..60",
                "d 60..80",
                "e 80..100",
                "f 100..120",
                "g 120..140",
            ],
            "d e f",
        ),
        ("a failed one does not keep overlapping ones back", vec!["a 0..20 failed", "b 10..30"], "a b"),
        ("few are deleted", vec!["a 0..180 5/100", "b 180..200"], ""),
        ("many are deleted", vec!["a 0..180 6/100", "b 180..200"], "a"),
        (
            "the newer one with deletions goes first",
            vec!["a 0..180 10/100", "b 180..360 10/100", "c 360..380"],
            "b",
        ),
        ("a short one keeps older ones back", vec!["a 0..180 50/100", "b 180..200 50/100", "c 200..220"], ""),
        ("unless all of it is deleted", vec!["a 0..180 50/100", "b 180..200 100/100", "c 200..220"], "b"),
        (
            "behind one held back nothing is done",
            vec!["a 0..20", "b 20..40 held", "c 40..60", "d 60..80"],
            "",
        ),
        (
            "what comes before one held back is compacted",
            vec!["a 0..20", "b 20..40", "c 40..60", "d 60..80", "e 60..80 held"],
            "a b c",
        ),
        ("kinds do not mix", vec!["a 0..20", "b 10..30 stale", "c 10..30 selected"], ""),
        (
            "full ones before parts of the head",
            vec!["a 0..20 stale", "b 10..30 stale", "c 0..20", "d 10..30"],
            "c d",
        ),
        (
            "stale ones before selected ones",
            vec!["a 0..20 selected", "b 10..30 selected", "c 0..20 stale", "d 10..30 stale"],
            "c d",
        ),
        ("late ones mix with others", vec!["a 0..20", "b 10..30 late"], "a b"),
        ("before 1970", vec!["a -60..-40", "b -40..-20", "c -20..0", "d 0..20"], "a b c"),
        ("names do not matter for time", vec!["a 60..80", "b 40..60", "c 20..40", "d 0..20"], "d c b"),
    ] {
        assert_eq!(answer("20 60 180", &blocks), want, "{what}");
    }
    assert_eq!(
        answer("20", &["a 0..20", "b 20..40", "c 40..60", "d 60..80"]),
        "",
        "one range alone is no plan"
    );
}

/// What is planned ahead is what is planned when all before it is done.
#[test]
fn what_is_planned_ahead_is_what_comes_next() {
    let mut state = 7_u64;
    let mut random = |n: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % n
    };
    let mut ahead = 0;
    for case in 0..400 {
        let mut metas = Vec::new();
        let mut start = i64::try_from(random(10)).unwrap() * 20;
        for i in 0..random(40) {
            let kind = ["", " late", " stale", " selected"][[0, 0, 0, 0, 0, 1, 2, 3][random(8) as usize]];
            let length = [20, 20, 20, 60, 15, 180][random(6) as usize];
            metas.push(block(&format!("{:02}{i} {start}..{}{kind}", random(100), start + length)));
            start += [length, length, length, length, length + 20, length - 5, 20][random(7) as usize];
        }
        let ranges = [20, 60, 180, 540];
        let merged = |metas: &[BlockMeta], run: &[usize]| {
            let chosen: Vec<&BlockMeta> = run.iter().map(|i| &metas[*i]).collect();
            merged_meta(format!("m{}", chosen[0].ulid), &chosen)
        };
        loop {
            let refs: Vec<&BlockMeta> = metas.iter().collect();
            let runs = plan_ahead(&refs, &ranges, &|_| false);
            if runs.is_empty() {
                break;
            }
            ahead = ahead.max(runs.len());
            let name = |i: &usize| refs[*i].ulid.clone();
            let runs: Vec<Vec<String>> = runs.iter().map(|run| run.iter().map(name).collect()).collect();
            for run in runs {
                let refs: Vec<&BlockMeta> = metas.iter().collect();
                let next = plan(&refs, &ranges, &|_| false);
                let names: Vec<_> = next.iter().map(|i| refs[*i].ulid.clone()).collect();
                assert_eq!(names, run, "case {case}");
                let new = merged(&metas, &next);
                metas.retain(|m| !names.contains(&m.ulid));
                metas.push(new);
            }
        }
    }
    assert!(ahead > 3, "{ahead}");
}

#[test]
fn blocks_of_other_resolutions_are_left_alone() {
    let mut metas: Vec<BlockMeta> =
        ["a 0..20", "b 0..20", "c 5..20", "d 20..40"].iter().map(|b| block(b)).collect();
    for i in [0, 2] {
        metas[i].thanos = Some(Default::default());
        metas[i].thanos.as_mut().unwrap().downsample.resolution = 300_000;
    }
    let refs: Vec<&BlockMeta> = metas.iter().collect();
    assert!(plan(&refs, &[20, 60], &|_| false).is_empty());
    assert_eq!(plan(&[refs[0], refs[2]], &[20, 60], &|_| false), [0, 1]);
    assert!(plan(&refs, &[], &|_| false).is_empty());
}

#[test]
fn a_merged_block_says_what_it_was_made_of() {
    let meta = |line: &str, level, sources: &[&str]| {
        let mut meta = block(line);
        meta.compaction.level = level;
        meta.compaction.sources = sources.iter().map(ToString::to_string).collect();
        meta
    };
    let (a, b) = (meta("A 1000..5000", 2, &["S2", "S1"]), meta("B 200..1500", 3, &["S3", "S1"]));
    let got = merged_meta("N".to_string(), &[&b, &a]);
    assert_eq!((got.ulid.as_str(), got.min_time, got.max_time, got.version), ("N", 200, 5000, 1));
    assert_eq!(
        (got.compaction.level, got.compaction.sources),
        (4, vec!["S1".into(), "S2".into(), "S3".into()])
    );
    let parents: Vec<(&str, i64, i64)> =
        got.compaction.parents.iter().map(|p| (p.ulid.as_str(), p.min_time, p.max_time)).collect();
    assert_eq!(parents, [("B", 200, 1500), ("A", 1000, 5000)]);
    for (blocks, want) in [
        (vec!["a 0..1", "b 0..1"], vec![]),
        (vec!["a 0..1 late", "b 0..1 late"], vec![HINT_OUT_OF_ORDER]),
        (vec!["a 0..1 late", "b 0..1"], vec![]),
        (vec!["a 0..1 stale", "b 0..1"], vec![HINT_STALE_SERIES]),
        (vec!["a 0..1", "b 0..1 selected"], vec![HINT_SELECTED_SERIES]),
        (
            vec!["a 0..1 stale late", "b 0..1 selected late"],
            vec![HINT_OUT_OF_ORDER, HINT_SELECTED_SERIES, HINT_STALE_SERIES],
        ),
    ] {
        let metas: Vec<BlockMeta> = blocks.iter().map(|b| block(b)).collect();
        let got = merged_meta("N".to_string(), &metas.iter().collect::<Vec<_>>());
        assert_eq!(got.compaction.hints, want, "{blocks:?}");
    }
}

#[test]
fn what_thanos_adds_is_kept_where_all_agree() {
    let with = |cluster: Option<&str>| {
        let mut meta = block("a 0..1");
        meta.thanos = cluster.map(|c| tsdbctl_block::meta::Thanos {
            labels: [("cluster".to_string(), c.to_string())].into(),
            ..Default::default()
        });
        meta
    };
    for (clusters, kept) in [
        ([Some("x"), Some("x")], true),
        ([Some("x"), Some("y")], false),
        ([Some("x"), None], false),
        ([None, Some("x")], false),
    ] {
        let [a, b] = clusters.map(with);
        let got = merged_meta("N".to_string(), &[&a, &b]).thanos;
        assert_eq!(
            got.as_ref().map(|t| t.labels == a.thanos.as_ref().unwrap().labels),
            kept.then_some(true),
            "{clusters:?}"
        );
    }
}
