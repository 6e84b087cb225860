//! `packaging/Dockerfile` and the compose file: built and run as they are, on images made of this machine's own nginx and
//! Icinga 2 in the place of those that a registry would give.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::{LEAST, nginx_image};
use crate::docs::shown;
use crate::support::docker::Docker;
use crate::support::docker::image::Image;
use crate::support::plugin::{check_output, outcome, project, static_folder};
use crate::support::skip::skip;

/// What the Dockerfile calls the Icinga that it starts from.
const ICINGA: &str = "icinga/icinga2:latest";
/// What the compose file calls nginx.
const NGINX: &str = "nginx:stable";

/// The project's folder as somebody has it who has built the static binaries, with the files that images are made of.
fn checkout() -> TempDir {
    let folder = tempfile::Builder::new()
        .prefix("checkout-")
        .tempdir()
        .expect("a temporary folder");
    let release = folder
        .path()
        .join("target/x86_64-unknown-linux-gnu/release");
    fs::create_dir_all(&release).expect("a folder");
    for name in [
        "check_http_retry",
        "check_port_exhaustion",
        "check_nginx_upstream_bind",
    ] {
        fs::copy(static_folder().join(name), release.join(name)).expect("a plugin");
    }
    // Something large that is not to be sent to the daemon.
    fs::File::create(folder.path().join("target/large"))
        .and_then(|file| file.set_len(1 << 40))
        .expect("a sparse file");
    fs::copy(
        project().join(".dockerignore"),
        folder.path().join(".dockerignore"),
    )
    .expect("it is shipped");
    for name in ["packaging", "icinga2-conf"] {
        let status = Command::new("cp")
            .arg("-R")
            .arg(project().join(name))
            .arg(folder.path())
            .status();
        assert!(status.is_ok_and(|status| status.success()), "{name}");
    }
    folder
}

/// Builds a target of the Dockerfile.
fn build(docker: &Docker, target: &str, name: &str) {
    let checkout = checkout();
    let line = format!("docker build -f packaging/Dockerfile --target {target} -t {name} .");
    let mut shell = docker.client("sh");
    shell.args(["-c", &shown("containers.md", &line, &[])]);
    let output = shell.current_dir(checkout.path()).output();
    let output = output.expect("a shell");
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{text}{errors}");
}

/// This machine's Icinga 2, laid out as in the image of its makers: the plugins' folder, the user and its number, the
/// configuration, no privileges.
fn icinga_image() -> Image {
    let libraries = format!(
        "/usr/lib/{}-linux-gnu/icinga2/sbin/icinga2",
        std::env::consts::ARCH
    );
    let image = Image::new()
        .program(Path::new(&libraries), "/usr/sbin/icinga2")
        .program(Path::new("/usr/lib/nagios/plugins/check_http"), "/usr/lib/nagios/plugins/check_http")
        .tree(Path::new("/usr/share/icinga2/include"), "/usr/share/icinga2/include")
        .file("/etc/passwd", "root:x:0:0::/:/bin/false\nicinga:x:5665:5665::/:/bin/false\n")
        .file("/etc/group", "root:x:0:\nicinga:x:5665:\n")
        .file("/etc/icinga2/constants.conf", &fs::read_to_string("/etc/icinga2/constants.conf").expect("a file of Debian's"))
        .file("/etc/icinga2/zones.conf", "object Endpoint NodeName { }\nobject Zone ZoneName { endpoints = [ NodeName ] }\n")
        .file(
            "/etc/icinga2/icinga2.conf",
            "include \"constants.conf\"\ninclude \"zones.conf\"\ninclude <itl>\ninclude <plugins>\ninclude <plugins-contrib>\n\
             object CheckerComponent \"checker\" { }\n\
             object PerfdataWriter \"perfdata\" { rotation_interval = 1s }\n",
        );
    let writable = [
        "lib/icinga2",
        "log/icinga2",
        "cache/icinga2",
        "spool/icinga2/tmp",
        "spool/icinga2/perfdata",
    ];
    let image = writable
        .iter()
        .fold(image, |image, name| image.folder(&format!("/var/{name}")));
    image
        .folder("/run/icinga2")
        .change("USER icinga")
        .change("ENV ICINGA2_USER=icinga ICINGA2_GROUP=icinga PATH=/usr/sbin:/usr/bin:/sbin:/bin")
        .change(r#"CMD ["icinga2", "daemon"]"#)
}

#[test]
fn the_dockerfile_makes_an_image_with_nothing_but_the_plugins() {
    let Some(docker) = Docker::here() else {
        return;
    };
    build(&docker, "plugins", "proxy-checks");
    let run = |words: &[&str]| {
        outcome(
            &mut docker.command(
                &[
                    &["run", "--rm", "--network=none"],
                    &LEAST[1..],
                    &["proxy-checks"],
                    words,
                ]
                .concat(),
            ),
        )
    };
    // Its user is nobody without being told so.
    assert_eq!(
        docker.run(&["inspect", "--format", "{{.Config.User}}", "proxy-checks"]),
        "65534:65534"
    );
    for name in [
        "check_http_retry",
        "check_port_exhaustion",
        "check_nginx_upstream_bind",
    ] {
        let version = run(&[name, "--version"]);
        assert_eq!(
            version.text,
            format!("{name} {}\n", env!("CARGO_PKG_VERSION"))
        );
    }
    let help = run(&[]);
    assert_eq!(help.code, Some(3));
    assert!(
        help.text.contains("Usage: check_http_retry "),
        "{}",
        help.text
    );
    let ports = run(&["check_port_exhaustion"]);
    assert!(
        ports
            .headline()
            .starts_with("PORTS OK: no outgoing connections, "),
        "{}",
        ports.text
    );
}

#[test]
fn the_dockerfile_puts_the_plugins_and_their_commands_into_an_icinga_image() {
    let Some(docker) = Docker::here() else {
        return;
    };
    docker.image(ICINGA, icinga_image);
    build(&docker, "icinga", "icinga2-proxy-checks");
    let least = &LEAST[2..];
    let file = docker.folder().join("objects.conf");
    let objects = "include \"/etc/icinga2/icinga2.conf\"
object Host \"here\" { check_command = \"dummy\" }
object Service \"ports\" { host_name = \"here\", check_command = \"port_exhaustion\", check_interval = 1s }
object Service \"web\" { host_name = \"here\", check_command = \"http_intermittent\", check_interval = 1s
  vars.http_address = \"127.0.0.1\" }
";
    fs::write(&file, objects.replace(", check", "\ncheck")).expect("a file");
    let mount = format!("--volume={}:/objects.conf:ro", file.display());
    let words = [
        "--network=none",
        &mount,
        "icinga2-proxy-checks",
        "icinga2",
        "daemon",
        "-c",
        "/objects.conf",
    ];
    let icinga = docker.container(&[least, &words].concat());
    // What it runs is what somebody finds by hand who looks.
    let wait = |part: &str| {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !perfdata(&docker, &icinga.id).contains(part) {
            let log = docker
                .command(&["logs", &icinga.id])
                .output()
                .expect("docker");
            assert!(
                Instant::now() < deadline,
                "no {part}: {}{}",
                String::from_utf8_lossy(&log.stdout),
                perfdata(&docker, &icinga.id)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    wait("SERVICEDESC::ports\tSERVICEPERFDATA::used_share=0%;50;80;0;100 ");
    // Nobody listens there.
    wait("SERVICEDESC::web\tSERVICEPERFDATA::attempts=10;;;0; failed=10;;;0;10 ");
    let mut command = icinga.exec(&[
        "/usr/lib/nagios/plugins/check_http_retry",
        "-I",
        "127.0.0.1",
        "--attempts=3",
    ]);
    let refused = outcome(&mut command);
    assert_eq!(
        (refused.code, refused.metric("failed")),
        (Some(2), Some(3.0)),
        "{}",
        refused.text
    );
}

/// What Icinga's PerfdataWriter of a container has written: `NAME::VALUE` fields with tabs between them.
fn perfdata(docker: &Docker, container: &str) -> String {
    let from = format!("{container}:/var/spool/icinga2/perfdata");
    // An archive, of which only the text matters here.
    let output = docker
        .command(&["cp", &from, "-"])
        .output()
        .expect("docker");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_compose_file_has_icinga_watch_the_proxy_from_within_its_network() {
    let Some(docker) = Docker::here() else {
        return;
    };
    let Some(compose) = compose(&docker) else {
        return skip(
            "there is neither \"docker compose\" nor docker-compose (apt-get install docker-compose)",
        );
    };
    docker.image(ICINGA, icinga_image);
    docker.image(NGINX, || {
        let image = nginx_image()
            .folder("/run")
            .folder("/var/lib/nginx")
            .change("ENTRYPOINT []");
        image
            .change(r#"CMD ["nginx", "-g", "daemon off;"]"#)
            .change("ENV PATH=/usr/sbin")
    });
    let checkout = checkout();
    let run = |words: &[&str]| {
        let mut command = docker.client(&compose[0]);
        command
            .args(&compose[1..])
            .args(["-f", "compose.yaml", "--project-name", "example"])
            .args(words);
        command.current_dir(checkout.path().join("packaging/compose"));
        (command.output().expect("docker-compose"), command)
    };
    let succeed = |words: &[&str]| {
        let (output, command) = run(words);
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    succeed(&["config", "--quiet"]);
    let down = Down(|| drop(run(&["down", "--volumes", "--timeout", "1"])));
    succeed(&["up", "--build", "--detach"]);
    let [icinga, proxy] = ["icinga", "proxy"].map(|service| succeed(&["ps", "-q", service]));
    let deadline = Instant::now() + Duration::from_mins(2);
    // Icinga spreads the first checks over their interval, a minute; the third service asks for 45 s more.
    for service in ["client-ports", "nginx-upstream"] {
        let part = format!("SERVICEDESC::{service}\t");
        while !perfdata(&docker, &icinga).contains(&part) {
            let logs = run(&["logs", "--no-color"]).0;
            assert!(
                Instant::now() < deadline,
                "no {service}: {}",
                String::from_utf8_lossy(&logs.stdout)
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    // As the head of the file has it.
    let exec = |name: &str, words: &[&str]| {
        let plugin = format!("/usr/lib/nagios/plugins/{name}");
        let (output, command) = run(&[&["exec", "-T", "icinga", &plugin], words].concat());
        check_output(&output, &command)
    };
    let http = exec("check_http_retry", &["-I", "127.0.0.1", "--until", "ok"]);
    assert_eq!(http.code, Some(0), "{}", http.text);
    let ports = exec("check_port_exhaustion", &["-v"]);
    assert_eq!(ports.code, Some(0), "{}", ports.text);
    let process = docker.run(&["inspect", "--format", "{{.State.Pid}}", &proxy]);
    let number = fs::read_link(format!("/proc/{process}/ns/net")).expect("a process of ours");
    assert!(
        ports
            .text
            .contains(&format!("namespace {}", number.display())),
        "{}",
        ports.text
    );
    drop(down);
}

/// How compose is called here, if it is.
fn compose(docker: &Docker) -> Option<Vec<OsString>> {
    let plugin = docker.command(&["compose"]).get_program().to_owned();
    [
        vec![plugin, "compose".into()],
        vec!["docker-compose".into()],
    ]
    .into_iter()
    .find(|words| {
        let version = docker
            .client(&words[0])
            .args(&words[1..])
            .arg("version")
            .output();
        version.is_ok_and(|output| output.status.success())
    })
}

/// Calls a function when dropped.
struct Down<F: Fn()>(F);

impl<F: Fn()> Drop for Down<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
