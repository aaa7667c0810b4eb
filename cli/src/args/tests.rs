use clap::CommandFactory as _;

use super::*;

fn read(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(["nettailor-cli"].into_iter().chain(line.split_whitespace()))
}

#[test]
fn the_definition_is_sound() {
    Args::command().debug_assert();
}

#[test]
fn every_documented_command_is_read() {
    for line in [
        "run tasks.yaml --workers 2 --slots 1 --threads 1 --state there --svg-dir pictures",
        "submit tasks.yaml",
        "submit tasks.yaml --wait --timeout 30m -o json",
        "submit tasks.yaml --follow",
        "submit tasks.yaml --user alice --priority -5 --deadline 2h",
        "validate tasks.yaml",
        "schema",
        "jobs list --task digits --state running,queued --state failed --limit 5",
        "jobs get 01",
        "jobs watch 01 02 --timeout 90s",
        "jobs logs 01 --stage candidate(6) -f",
        "jobs cancel 01 --reason enough --yes",
        "jobs set 01 --priority -100",
        "jobs set 01 --deadline none --priority 3",
        "jobs pause 01 --reason later --for 90m",
        "jobs resume 01",
        "jobs retry 01 02 --failed-only --from-stage candidate(6)",
        "jobs explain 01 --stage student",
        "jobs events 01 -f -o json",
        "workers list",
        "workers cordon w1 --reason disk",
        "workers drain w1 --reason disk",
        "workers uncordon w1",
        "workers explain w1 -o yaml",
        "users list",
        "users set alice --weight 2 --limit none --guarantee 0",
        "explain 01",
        "registry list --local",
        "registry list --local=there -o wide",
        "registry get digits@2 --svg digits.svg",
        "registry get --local digits",
        "registry search --task d --min-accuracy 97.5 --max-params 3M --max-flops 0.2G --sort flops --desc --limit 3",
        "registry report digits mnist5k@1 --svg-dir pictures",
        "backbone import lite0.pth --arch lite0 --local",
        "backbone list",
        "completions bash",
        "--coordinator http://there:7400 -q -v --no-color jobs list",
    ] {
        if let Err(error) = read(line) {
            panic!("`{line}`: {error}");
        }
    }
}

#[test]
fn mistakes_have_the_exit_code_of_usage() {
    for line in [
        "",
        "job list",
        "submit",
        "submit a.yaml --wait --follow",
        "submit a.yaml --wait --timeout soon",
        "jobs list --state done",
        "jobs list --limit 0",
        "submit a.yaml --user Alice",
        "submit a.yaml --priority 101",
        "submit a.yaml --deadline none",
        "jobs set 01",
        "jobs set 01 --deadline soon",
        "jobs set 01 --deadline 0m",
        "jobs pause 01 --for 0",
        "jobs retry",
        "jobs retry 01 --from-stage pupil",
        "jobs explain 01 --stage candidate",
        "workers cordon",
        "users set alice",
        "users set alice --weight 0",
        "users set alice --limit 0",
        "explain",
        "registry search --min-accuracy 0.975",
        "registry search --max-params lots",
        "registry get digits@0",
        "backbone import lite0.pth --arch lite9",
        "run tasks.yaml --workers 0",
    ] {
        match read(line) {
            Ok(args) => panic!("`{line}` was read as {args:?}"),
            Err(error) => assert_eq!(error.exit_code(), 2, "`{line}`: {error}"),
        }
    }
}

#[test]
fn global_options_have_defaults_and_stand_anywhere() {
    let global = |line: &str| read(line).expect("a command").global;
    assert_eq!(
        global("schema --coordinator http://a:1").coordinator,
        "http://a:1"
    );
    assert_eq!(global("schema").local, None);
    assert_eq!(
        global("schema --local").local,
        Some(crate::embedded::STATE_DIR.into())
    );
    assert_eq!(global("schema --local=x").local, Some("x".into()));
    assert_eq!(global("schema -o yaml").output, Format::Yaml);
    assert!(global("schema --no-color").no_color);
}

#[test]
fn spans_are_whole_minutes() {
    let read = ["90", "90m", "2h", "30s", "1m 1s", "694d"].map(minutes);
    assert_eq!(
        read,
        [Ok(90), Ok(90), Ok(120), Ok(1), Ok(2), Ok(999_360)],
        "a part of a minute counts as one"
    );
    for wrong in ["", "0", "0m", "-5", "1000001", "700d", "none"] {
        assert!(minutes(wrong).is_err(), "{wrong}");
    }
    assert_eq!(minutes_or_none("none"), Ok(0));
    assert_eq!(minutes_or_none("90m"), Ok(90));
    assert!(minutes_or_none("soon").is_err_and(|said| said.contains("none")));
}
