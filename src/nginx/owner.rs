//! Who may read a file: what to say where it is not us.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Owner, group and mode of a file that may not be read, and what would help.
pub fn hint(path: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    let account = name_of("/etc/passwd", user);
    let me = account.clone().unwrap_or_else(|| user.to_string());
    let barred = path
        .ancestors()
        .skip(1)
        .filter(|folder| !folder.as_os_str().is_empty())
        .find(|folder| rustix::fs::access(*folder, rustix::fs::Access::EXEC_OK).is_err());
    let subject = barred.unwrap_or(path);
    let Ok(metadata) = std::fs::metadata(subject) else {
        return format!("{me} may not look into its folder");
    };
    let owner =
        name_of("/etc/passwd", metadata.uid()).unwrap_or_else(|| metadata.uid().to_string());
    let group = name_of("/etc/group", metadata.gid()).unwrap_or_else(|| metadata.gid().to_string());
    let mode = metadata.mode() & 0o7777;
    let needed = if barred.is_some() { 0o010 } else { 0o040 };
    let what = barred.map_or_else(|| "it".to_owned(), |folder| folder.display().to_string());
    let help = if mode & needed != 0 && account.is_none() {
        // A container's user is often one that its image knows nothing of.
        format!(
            "give user {me} that group (docker run --group-add {})",
            metadata.gid()
        )
    } else if mode & needed != 0 && group != "root" {
        format!("make {me} a member of {group} (usermod -aG {group} {me})")
    } else {
        format!(
            "allow {me} to read it (setfacl, or create 0640 root adm in its logrotate configuration)"
        )
    };
    format!("{what} belongs to {owner}, group {group}, mode {mode:04o}: {help}")
}

/// The name of a number in `/etc/passwd` or `/etc/group`.
fn name_of(file: &str, number: u32) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(number)).then(|| name.to_owned())
    })
}
