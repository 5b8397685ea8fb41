//! Times, offsets and ranges at the ends of what can be written: an answer or an error, and no overflow.

use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::CommandCargoExt;

#[test]
fn times_at_the_ends_are_answered_or_refused() {
    const WIDE: &[&str] = &["--start=-9e15", "--end=9e15"];
    const FAR: &[&str] = &["--start=-4e15", "--end=4e15", "--step=9e12", "-o", "graph"];
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/demo").display().to_string();
    let nested =
        "sum_over_time((sum_over_time((up offset -290y)[290y:290y] offset -290y))[290y:290y] offset -290y)";
    for (args, times, code) in [
        (&["query", "up offset 200y"][..], &["--time=-9e15"][..], 0),
        (&["query", "up offset -200y"], &["--time=9e15"], 0),
        (&["query", "up[292y]"], &["--time=-9e15"], 0),
        (&["query", "max_over_time(rate(up[200y])[292y:10y] offset 200y)"], &["--time=-9e15"], 0),
        (&["query", nested], &["--time=9e15"], 0),
        (&["query", "up @ -9e15 offset 200y"], &["--time=9e15", "-o", "json"], 0),
        (&["query", "vector(time())"], &["--time=-9e15", "-o", "csv"], 0),
        (&["query", "up", "--lookback-delta", "292y"], &["--time=-9e15"], 0),
        (&["query", "vector(time())"], FAR, 0),
        (&["query", "up @ start() offset 292y or absent_over_time(up[292y] offset -292y)", "-v"], FAR, 0),
        // More than an i64 of milliseconds from start to end.
        (&["query", "vector(time())", "--step=8e12"], WIDE, 1),
        (&["query", "up", "--step=1"], WIDE, 1),
        (&["query", "up offset 300y"], &[], 1),
        (&["query", "up"], &["--time=9e18"], 2),
        (&["inspect", "series", "--match", "up"], WIDE, 0),
        (&["inspect", "exemplars"], WIDE, 0),
        (&["inspect", "blocks", "--gap", "292y"], &[], 0),
        (&["export", "--match", "up"], WIDE, 0),
        (&["export"], &["--start=newest+292y"], 0),
    ] {
        let mut command = Command::cargo_bin("tsdbctl").unwrap();
        let done = command.args(args).args(times).args(["-d", &demo]).output().unwrap();
        let error = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?} {times:?}: {error}");
        assert!(!error.contains("panicked"), "{args:?} {times:?}: {error}");
    }
}
