//! A small disk that can be filled without harm: a tmpfs in a mount namespace of its own.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};

/// Mounted as long as this value lives; other processes reach it by its [path](Self::path).
pub struct Volume {
    /// Keeps the namespace alive.
    holder: Child,
    path: PathBuf,
}

impl Volume {
    /// A volume of `mebibytes`, mounted over the empty folder `mount_point`.
    ///
    /// It needs user namespaces, which some containers forbid: the error then says so.
    pub fn mount(mount_point: &Path, mebibytes: u32) -> anyhow::Result<Self> {
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
            bail!("this test mounts a tmpfs in a user namespace, which is not allowed here");
        }
        let inside = mount_point
            .strip_prefix("/")
            .context("expected an absolute path")?;
        let path = PathBuf::from(format!("/proc/{}/root", holder.id())).join(inside);
        Ok(Self { holder, path })
    }

    /// Where everybody sees its content.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::create(self.path.join("filler"))?;
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
        fs::remove_file(self.path.join("filler"))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
