//! The binaries without any library, in a root folder that holds nothing else.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::manuals::binaries;
use crate::support::fault_server::{Act, FaultServer, page};
use crate::support::names::Names;
use crate::support::netns::Netns;
use crate::support::plugin::{Outcome, copy_program, outcome, static_folder};

/// A folder with one binary, and the command that runs it as if the folder were all there is.
fn empty_root(name: &str) -> TempDir {
    let root = TempDir::with_prefix("empty-root-").expect("a temporary folder");
    copy_program(static_folder().join(name), root.path().join(name));
    root
}

fn run_in(netns: &Netns, root: &Path, name: &str, arguments: &[&str]) -> Outcome {
    let mut command: Command = netns.command("chroot");
    command.arg(root).arg(format!("/{name}")).args(arguments);
    outcome(&mut command)
}

#[test]
fn every_static_binary_starts_where_there_is_nothing_but_itself() {
    let netns = Netns::new("empty");
    for name in binaries() {
        let root = empty_root(&name);
        let outcome = run_in(&netns, root.path(), &name, &["--version"]);
        let version = format!("{name} {}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(outcome.text, version);
        let left = fs::read_dir(root.path()).expect("it is there").count();
        assert_eq!(left, 1, "{name} made files");
    }
}

#[test]
fn a_static_binary_finds_names_without_the_c_librarys_modules() {
    let netns = Netns::new("names");
    let address: IpAddr = "127.0.0.2".parse().expect("an address");
    let _names = Names::start(&netns, "www.test", &[address]);
    let _server = netns.within(|| {
        let listener = TcpListener::bind(("127.0.0.2", 8080)).expect("a port");
        FaultServer::on(listener, None, |_| Act::Send(page("200 OK", "hello\n")))
    });
    let name = "check_http_retry";
    let root = empty_root(name);
    let etc = root.path().join("etc");
    fs::create_dir(&etc).expect("a folder");
    let ask = |host: &str| {
        let arguments = ["-H", host, "-p", "8080", "--attempts", "2", "-t", "5"];
        run_in(&netns, root.path(), name, &arguments)
    };

    // Through the name server, and from the file, in the order that the C library has without being told.
    fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.53\n").expect("it is ours");
    fs::write(etc.join("hosts"), "127.0.0.2 filed.test\n").expect("it is ours");
    // Modules that a host may name and that cannot be loaded here: they are passed over.
    let switches = [
        None,
        Some("hosts: files dns\n"),
        Some("hosts: files mymachines resolve [!UNAVAIL=return] dns myhostname\n"),
        Some("hosts: files mdns4_minimal [NOTFOUND=return] dns\n"),
    ];
    for switch in switches {
        let file = etc.join("nsswitch.conf");
        if let Some(text) = switch {
            fs::write(file, text).expect("it is ours");
        }
        for host in ["www.test", "filed.test"] {
            let outcome = ask(host);
            assert_eq!(outcome.code, Some(0), "{switch:?} {host}: {outcome:?}");
        }
        let outcome = ask("nosuch.test");
        assert_eq!(outcome.code, Some(2), "{switch:?}: {outcome:?}");
        // Where the last module is one that cannot be loaded, the C library's word for it is another.
        assert!(outcome.text.contains("2 dns (nosuch.test: "), "{outcome:?}");
    }

    // Nothing is there to ask: said, not died of.
    fs::remove_dir_all(&etc).expect("it is ours");
    let outcome = ask("www.test");
    assert!(matches!(outcome.code, Some(2 | 3)), "{outcome:?}");
}
