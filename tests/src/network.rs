//! A network that can be cut: the test's own node and one beside it, each a network namespace, joined by one cable.
//!
//! A test enters a namespace by running itself again inside one ([`inside`]): a process that has threads cannot move.

use std::env;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::ambient;

/// Set where a test runs in a network namespace of its own.
const INSIDE: &str = "NETTAILOR_TESTS_INSIDE";
/// What a program in a user namespace starts with.
const NAMESPACE: [&str; 4] = ["unshare", "--user", "--map-root-user", "--net"];
/// Where the test's node is reached, whatever becomes of the cable.
pub const HOME: &str = "10.78.0.1";
const CABLE_HOME: &str = "home";
const CABLE_AWAY: &str = "away";

/// Whether this process may make a [`Network`]. If not, the test `name` (its whole path) was run again in a process that
/// may, and passed; or a word on stderr says that network namespaces are not allowed here.
///
/// # Errors
/// The test failed in there.
pub fn inside(name: &str) -> anyhow::Result<bool> {
    if ambient::setting(INSIDE).is_some() {
        return Ok(true);
    }
    let probe = command(
        &[
            &NAMESPACE[..],
            &[
                "ip", "link", "add", CABLE_HOME, "type", "veth", "peer", "name", CABLE_AWAY,
            ],
        ]
        .concat(),
    )
    .stderr(Stdio::null())
    .status()
    .context("this test needs `unshare`, of the package util-linux")?;
    if !probe.success() {
        crate::process::skipped("a network namespace is not allowed here, or there is no `ip`")?;
        return Ok(false);
    }
    let program = env::current_exe()?;
    let program = program.to_str().context("the test's path is not text")?;
    let status = command(&[&NAMESPACE[..], &[program, "--exact", name, "--nocapture"]].concat())
        .env(INSIDE, "1")
        .status()?;
    ensure!(status.success(), "{name} failed in its namespace: {status}");
    Ok(false)
}

/// The node beside the test's own, and the cable between them.
pub struct Network {
    /// Keeps the other node's namespace alive.
    away: Child,
}

impl Network {
    /// Call it once, [inside](inside) only.
    pub fn new() -> anyhow::Result<Self> {
        let away = command(&["unshare", "--net", "sh", "-c", "echo up && exec sleep infinity"])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut network = Self { away };
        let mut said = [0; 3];
        let stdout = network.away.stdout.as_mut().context("stdout is piped")?;
        stdout
            .read_exact(&mut said)
            .context("the other node did not come up")?;
        let (pid, home) = (network.away.id().to_string(), format!("{HOME}/32"));
        let here: [&[&str]; 4] = [
            &["link", "set", "lo", "up"],
            &[
                "link", "add", CABLE_HOME, "type", "veth", "peer", "name", CABLE_AWAY, "netns", &pid,
            ],
            &["address", "add", "10.77.0.1/24", "dev", CABLE_HOME],
            &["address", "add", &home, "dev", "lo"],
        ];
        for words in here {
            ip(&[], words)?;
        }
        network.mend()?;
        let there: [&[&str]; 4] = [
            &["link", "set", "lo", "up"],
            &["address", "add", "10.77.0.2/24", "dev", CABLE_AWAY],
            &["link", "set", CABLE_AWAY, "up"],
            &["route", "add", HOME, "via", "10.77.0.1"],
        ];
        for words in there {
            ip(&network.launcher(), words)?;
        }
        Ok(network)
    }

    /// What a command line starts with that is to run on the other node.
    pub fn launcher(&self) -> Vec<String> {
        ["nsenter", "--net", "--target", &self.away.id().to_string()]
            .map(str::to_owned)
            .to_vec()
    }

    /// Pulls the cable: from now on what the nodes send each other is lost without a word.
    pub fn cut(&self) -> anyhow::Result<()> {
        ip(&[], &["link", "set", CABLE_HOME, "down"])?;
        ensure!(
            ip(&[], &["link", "show", CABLE_HOME])?.contains("state DOWN"),
            "the cable was not pulled"
        );
        Ok(())
    }

    /// Packets that have come through the cable to this node.
    pub fn received(&self) -> anyhow::Result<u64> {
        let links = ip(&[], &["-json", "-statistics", "link", "show"])?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&links)?;
        let home = links.iter().find(|link| link["ifname"] == CABLE_HOME);
        let packets = home.and_then(|link| link["stats64"]["rx"]["packets"].as_u64());
        packets.with_context(|| format!("no number of packets in {links:?}"))
    }

    /// Puts the cable back.
    pub fn mend(&self) -> anyhow::Result<()> {
        ip(&[], &["link", "set", CABLE_HOME, "up"]).map(drop)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.away.kill();
        let _ = self.away.wait();
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

/// Runs `ip`, which must succeed; what it printed.
fn ip(launcher: &[String], words: &[&str]) -> anyhow::Result<String> {
    let launcher = launcher.iter().map(String::as_str);
    let words: Vec<&str> = launcher.chain(["ip"]).chain(words.iter().copied()).collect();
    let output = command(&words)
        .output()
        .context("this test needs `ip`, of the package iproute2")?;
    if !output.status.success() {
        bail!("{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
