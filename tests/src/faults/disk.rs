//! File systems to hurt: an ext4 of its own on a loop file, whose power can be cut, and a small one in memory.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, bail, ensure};

use super::lab::said;

/// Size of the ext4.
const IMAGE_BYTES: u64 = 512 * 1024 * 1024;
/// The shutdown ioctl, `_IOR('X', 125, __u32)`, with 2: drop everything that is not on disk, the journal included. Python
/// makes it, since this workspace has no unsafe code; it waits for a line first and says when it began, in nanoseconds.
const CUT: &str = "
import fcntl, os, struct, sys, time
place = os.open(sys.argv[1], os.O_RDONLY)
sys.stdin.readline()
began = time.time_ns()
fcntl.ioctl(place, 0x8004587d, struct.pack('I', 2))
print(began)";

/// A mounted file system; unmounted when dropped.
pub struct Disk {
    place: PathBuf,
    image: Option<PathBuf>,
}

/// Why none can be made here; `None` when one can.
pub fn missing() -> Option<String> {
    if said(Command::new("id").arg("-u")).as_deref() != Some("0") {
        return Some("mounting needs root".to_owned());
    }
    let there =
        |program: &str| said(Command::new("sh").args(["-c", &format!("command -v {program}")])).is_some();
    let absent: Vec<&str> =
        ["mkfs.ext4", "mount", "umount", "python3"].into_iter().filter(|it| !there(it)).collect();
    (!absent.is_empty()).then(|| format!("not installed: {}", absent.join(", ")))
}

impl Disk {
    /// An ext4 in a file of that folder.
    pub fn ext4(folder: &Path) -> anyhow::Result<Disk> {
        let (image, place) = (folder.join("disk.image"), folder.join("disk"));
        File::create(&image)?.set_len(IMAGE_BYTES)?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        std::fs::create_dir_all(&place)?;
        let disk = Disk { place, image: Some(image) };
        disk.mount()?;
        Ok(disk)
    }

    /// A file system in memory of that size.
    pub fn memory(folder: &Path, bytes: u64) -> anyhow::Result<Disk> {
        let place = folder.join("disk");
        std::fs::create_dir_all(&place)?;
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&place))?;
        Ok(Disk { place, image: None })
    }

    /// Where it is mounted.
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// Gets ready to cut the power.
    pub fn cutter(&self) -> anyhow::Result<Cutter> {
        let mut command = Command::new("python3");
        command.args(["-c", CUT]).arg(&self.place).stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Cutter { waiting: command.spawn().context("python3")?, place: self.place.clone() })
    }

    /// The power is back: nobody may have a file open.
    pub fn power_up(&self) -> anyhow::Result<()> {
        run(Command::new("umount").arg(&self.place))?;
        self.mount()
    }

    /// Takes writes no more, or takes them again.
    pub fn read_only(&self, yes: bool) -> anyhow::Result<()> {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        run(Command::new("mount").args(["-o", how]).arg(&self.place))
    }

    fn mount(&self) -> anyhow::Result<()> {
        let image = self.image.as_deref().context("this one lives in memory")?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.place))
    }
}

/// A hand on the switch.
pub struct Cutter {
    waiting: Child,
    place: PathBuf,
}

impl Cutter {
    /// The power goes: whatever is not on disk is lost, and every write from now on fails. When that began, nanoseconds
    /// since 1970.
    pub fn cut(mut self) -> anyhow::Result<i64> {
        self.waiting.stdin.take().context("its input is a pipe")?.write_all(b"now\n")?;
        let output = self.waiting.wait_with_output()?;
        ensure!(output.status.success(), "the power could not be cut: {}", output.status);
        ensure!(
            File::create(self.place.join("still-alive")).is_err(),
            "the file system still takes writes after its power was cut"
        );
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that is being killed may still hold a file.
        let _ = run(Command::new("umount").arg("-l").arg(&self.place));
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
