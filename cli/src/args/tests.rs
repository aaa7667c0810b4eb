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
        "validate tasks.yaml",
        "schema",
        "jobs list --task digits --state running,queued --state failed --limit 5",
        "jobs get 01",
        "jobs watch 01 02 --timeout 90s",
        "jobs logs 01 --stage candidate(6) -f",
        "jobs cancel 01 --reason enough --yes",
        "workers list",
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
