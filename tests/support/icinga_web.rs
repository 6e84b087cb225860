//! A folder that is Icinga Web's configuration, for its command line and its modules.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Where Debian has the modules.
pub const MODULES: &str = "/usr/share/icingaweb2/modules";

/// Makes the folder, with these modules as far as they are installed, and these files.
pub fn configure(folder: &Path, modules: &[&str], files: &[(&str, &str)]) {
    let enabled = folder.join("enabledModules");
    fs::create_dir_all(&enabled).expect("a folder");
    for name in modules {
        let from = Path::new(MODULES).join(name);
        if from.exists() {
            symlink(from, enabled.join(name)).expect("a link");
        }
    }
    let config = "[global]\nconfig_backend = \"ini\"\n[logging]\nlog = \"none\"\n";
    for (name, text) in files.iter().chain([&("config.ini", config)]) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
}
