//! A small disk that can be filled without harm: a tmpfs in a mount namespace of its own.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

/// Mounted as long as this value lives, for processes that are started [inside](Self::launcher).
pub struct Volume {
    /// Keeps the namespace alive.
    holder: Child,
    mount_point: PathBuf,
}

impl Volume {
    /// A volume of `mebibytes`, mounted over the empty folder `mount_point`.
    ///
    /// `None`, and a word on stderr, where user namespaces are not allowed, as in some containers.
    pub fn mount(mount_point: &Path, mebibytes: u32) -> anyhow::Result<Option<Self>> {
        fs::create_dir_all(mount_point)?;
        let script = format!(
            "mount -t tmpfs -o size={mebibytes}m tmpfs \"$0\" && echo mounted && exec sleep infinity"
        );
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
            .arg(mount_point)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("this test needs `unshare`, of the package util-linux")?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().context("stdout is piped")?).read_line(&mut said)?;
        if said.trim() != "mounted" {
            holder.wait()?;
            crate::process::skipped("a user namespace with a tmpfs is not allowed here")?;
            return Ok(None);
        }
        Ok(Some(Self {
            holder,
            mount_point: mount_point.to_owned(),
        }))
    }

    /// Where processes inside see it.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// What a command line starts with that is to see the volume. It begins in the root folder.
    pub fn launcher(&self) -> Vec<String> {
        let target = self.holder.id().to_string();
        let words = [
            "nsenter",
            "--user",
            "--preserve-credentials",
            "--mount",
            "--target",
            &target,
        ];
        words.map(str::to_owned).to_vec()
    }

    fn filler(&self) -> PathBuf {
        let inside = self.mount_point.strip_prefix("/").unwrap_or(&self.mount_point);
        PathBuf::from(format!("/proc/{}/root", self.holder.id()))
            .join(inside)
            .join("filler")
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::create(self.filler())?;
        for piece in [1 << 16, 1] {
            let zeros = vec![0; piece];
            loop {
                match filler.write_all(&zeros) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Takes back what [`Self::fill`] took.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.filler())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
