//! An archive in cpio's `newc` form, which is what the kernel unpacks as its first file system.
//!
//! Written by ourselves: it is one header of hexadecimal numbers a file, and spares the machine a package.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    path::Path,
};

/// Type bits of `st_mode`.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// The archive being written.
pub(super) struct Archive<W> {
    out: W,
    inode: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        let (inode, directories) = Default::default();
        Self {
            out,
            inode,
            directories,
        }
    }

    /// A directory and all above it, once.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<()> {
        let name = name(path)?;
        let ends = name.match_indices('/').map(|(at, _)| at);
        for end in ends.chain([name.len()]) {
            if end > 0 && self.directories.insert(name[..end].to_owned()) {
                self.entry(&name[..end], DIRECTORY | 0o755, &[])?;
            }
        }
        Ok(())
    }

    /// A file, executable if `mode` says so, and the directories above it.
    pub(super) fn file(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        self.above(path)?;
        self.entry(&name(path)?, FILE | (mode & 0o7777), content)
    }

    /// A symbolic link, and the directories above it.
    pub(super) fn link(&mut self, path: &Path, to: &str) -> io::Result<()> {
        self.above(path)?;
        self.entry(&name(path)?, LINK | 0o777, to.as_bytes())
    }

    /// The archive's end.
    pub(super) fn finish(mut self) -> io::Result<W> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.out)
    }

    fn above(&mut self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |above| self.directory(above))
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let too_large = |_| io::Error::other(format!("{name}: too large for the archive"));
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        // inode, mode, owner, group, links, time, size, device and its number twice, name, checksum
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        write!(self.out, "070701")?;
        for field in fields {
            write!(self.out, "{field:08x}")?;
        }
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(HEADER + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    /// Zeros up to a multiple of four.
    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out
            .write_all(&[0; 3][..written.next_multiple_of(4) - written])
    }
}

/// The magic number and thirteen fields of eight digits.
const HEADER: usize = 6 + 13 * 8;

/// A path as the archive names it: from the root, without a slash in front.
fn name(path: &Path) -> io::Result<String> {
    let text = path
        .to_str()
        .ok_or_else(|| io::Error::other(format!("{}: not text", path.display())))?;
    Ok(text.trim_start_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_begins_at_a_multiple_of_four_and_directories_come_first() {
        let mut archive = Archive::new(Vec::new());
        archive
            .file(Path::new("/etc/one/name"), 0o644, b"12345")
            .unwrap();
        archive.link(Path::new("/etc/link"), "one/name").unwrap();
        let bytes = archive.finish().unwrap();
        let number = |at: usize| {
            let digits = std::str::from_utf8(&bytes[at..at + 8]).unwrap();
            usize::from_str_radix(digits, 16).unwrap()
        };
        let (mut at, mut found) = (0, Vec::new());
        while at < bytes.len() {
            assert_eq!(&bytes[at..at + 6], b"070701", "at {at}");
            let (mode, size, named) = (number(at + 14), number(at + 54), number(at + 94));
            let name = &bytes[at + HEADER..at + HEADER + named - 1];
            let content = (at + HEADER + named).next_multiple_of(4);
            found.push((
                mode,
                String::from_utf8_lossy(name).into_owned(),
                String::from_utf8_lossy(&bytes[content..content + size]).into_owned(),
            ));
            at = (content + size).next_multiple_of(4);
        }
        let expected = [
            (0o040_755, "etc", ""),
            (0o040_755, "etc/one", ""),
            (0o100_644, "etc/one/name", "12345"),
            (0o120_777, "etc/link", "one/name"),
            (0, "TRAILER!!!", ""),
        ];
        let expected = expected.map(|(mode, name, content)| (mode, name.into(), content.into()));
        assert_eq!(found, expected);
    }
}
