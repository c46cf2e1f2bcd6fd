//! Many files on their way into the machine, as one archive.

use std::io;

use tar::{Builder, EntryType, Header};

use super::install::Placed;
use crate::flightctl::device::files::Files;

/// Reads one. Files that are there make way, so that who has one open keeps it.
pub(super) const UNPACK: [&str; 3] = [
    "sh",
    "-c",
    "umask 022; exec tar -x -p --unlink-first --same-owner -C / -f -",
];

/// What the agent gives files of applications.
const MODE: u32 = 0o644;

/// Files of applications.
pub(super) fn of_apps(files: &Placed) -> io::Result<Vec<u8>> {
    let files = files.iter();
    packed(files.map(|(path, content)| (path, content.as_slice(), MODE, "root", "root")))
}

/// Files of the device's config.
pub(super) fn of_config(files: &Files) -> io::Result<Vec<u8>> {
    packed(files.iter().map(|(path, file)| {
        let (user, group) = (file.user.as_str(), file.group.as_str());
        (path, file.content.as_slice(), file.mode, user, group)
    }))
}

fn packed<'a>(
    files: impl Iterator<Item = (&'a String, &'a [u8], u32, &'a str, &'a str)>,
) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for (path, content, mode, user, group) in files {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_username(user)?;
        header.set_groupname(group)?;
        archive.append_data(&mut header, path.trim_start_matches('/'), content)?;
    }
    archive.into_inner()
}
