//! The plugins in real containers, and on real containers from outside: the incident with a proxy and a backend that are
//! containers, each with a network namespace of its own.

mod images;
mod incident;
mod namespaces;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::docker::image::Image;
use crate::support::docker::{Container, Docker, Network};
use crate::support::plugin::{Outcome, outcome};

/// The proxy's client ports.
const RANGE: &str = "20000 20099";
/// How many they are.
const PORTS: usize = 100;

/// A user that no image knows.
const NOBODY: &str = "--user=65534:65534";

/// The least that a container can be given: any user, nothing to write to, no capability and no way to any. Docker's
/// own seccomp profile is there by default.
const LEAST: [&str; 4] = [
    NOBODY,
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
];

/// What nginx needs of a configuration in a container where it may write to `/tmp` alone.
fn nginx(server: &str) -> String {
    format!(
        "daemon off; user root; worker_processes 1; pid /tmp/pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{ access_log off; keepalive_requests 10000; default_type text/plain;
client_body_temp_path /tmp/client_body; proxy_temp_path /tmp/proxy; fastcgi_temp_path /tmp/fastcgi;
uwsgi_temp_path /tmp/uwsgi; scgi_temp_path /tmp/scgi;
server {{ {server} }}
}}
"
    )
}

/// Debian's nginx with what it is linked with, and nothing else.
fn nginx_image() -> Image {
    Image::new()
        .program(Path::new("/usr/sbin/nginx"), "/usr/sbin/nginx")
        .file(
            "/etc/passwd",
            "root:x:0:0::/:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
        )
        .file("/etc/group", "root:x:0:\nnogroup:x:65534:\n")
        .folder("/tmp")
        .folder("/var/log/nginx")
        .change(r#"ENTRYPOINT ["/usr/sbin/nginx", "-e", "stderr", "-c"]"#)
}

/// A proxy and a backend, both nginx in a container, on a network that leads nowhere. Each request costs the proxy one
/// of its client ports for a minute: it speaks HTTP/1.1 to its backend, but keeps no pool, so that it closes first.
struct Scene<'a> {
    docker: &'a Docker,
    proxy: Container<'a>,
    _backend: Container<'a>,
    // Dropped last: a network with containers on it cannot be removed.
    network: Network<'a>,
}

impl<'a> Scene<'a> {
    fn start(docker: &'a Docker) -> Self {
        docker.image("nginx", nginx_image);
        docker.image("plugins", Image::plugins);
        let network = docker.network();
        let start = |name: &str, server: &str, more: &[&str]| {
            let file = docker
                .folder()
                .join(format!("{}-{name}.conf", network.name));
            std::fs::write(&file, nginx(server)).expect("a configuration");
            let mount = format!("--volume={}:/nginx.conf:ro", file.display());
            let on = format!("--network={}", network.name);
            docker.container(&[more, &[&mount, &on, "nginx", "/nginx.conf"]].concat())
        };
        let backend = start(
            "backend",
            r#"listen 8080; location / { return 200 "well\n"; }"#,
            &[],
        );
        let server = format!(
            "listen 80; location / {{ proxy_pass http://{}:8080; proxy_http_version 1.1;
             proxy_set_header Connection keep-alive; }}",
            backend.address()
        );
        let range = format!("--sysctl=net.ipv4.ip_local_port_range={RANGE}");
        let proxy = start("proxy", &server, &[&range]);
        let scene = Self {
            docker,
            proxy,
            _backend: backend,
            network,
        };
        scene.wait_until_it_answers();
        scene
    }

    /// One request of a user; the status, unless nobody listens.
    fn request(&self) -> std::io::Result<u16> {
        let address: Ipv4Addr = self
            .proxy
            .address()
            .parse()
            .expect("docker gives IPv4 addresses");
        self.docker.netns.within(|| {
            let mut stream = TcpStream::connect(SocketAddrV4::new(address, 80))?;
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer
                .get(9..12)
                .and_then(|status| status.parse().ok())
                .expect("a status"))
        })
    }

    fn wait_until_it_answers(&self) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while let Err(error) = self.request() {
            assert!(
                std::time::Instant::now() < deadline,
                "{error}: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Users come until the proxy has no client port left.
    fn exhaust(&self) {
        let refused = (0..=PORTS).find(|_| self.request().expect("the proxy answers") == 502);
        assert!(
            refused.is_some(),
            "more requests than ports, and none was refused"
        );
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.proxy.log()).unwrap_or_default()
    }

    /// A plugin in a container of the image with nothing but the plugins: `docker run --rm OPTIONS plugins /PLUGIN WORDS`.
    fn plugin(&self, options: &[&str], plugin: &str, words: &[&str]) -> Outcome {
        let program = format!("/{plugin}");
        outcome(&mut self.plugin_command(options, &program, words))
    }

    fn plugin_command(&self, options: &[&str], program: &str, words: &[&str]) -> Command {
        self.docker
            .command(&[&["run", "--rm"], options, &["plugins", program], words].concat())
    }
}
