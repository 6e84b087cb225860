//! The next command to run, to settle what coincidence cannot.

use super::facts::Facts;
use super::plan::Kind;
use super::sort::Sort;

/// Commands for a candidate. What stands in a log gets into one only where it cannot be anything but a name.
pub fn commands(
    sort: Sort,
    subject: Option<&[u8]>,
    facts: &Facts<'_>,
    [since, before]: &[String; 2],
) -> Vec<String> {
    let host = subject.and_then(harmless);
    let (address, port) = host.map_or(("ADDRESS", "PORT"), |host| {
        host.rsplit_once(':').unwrap_or((host, "80"))
    });
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let log = format!("{} --since {since} --before {before}", error_log(facts));
    match sort {
        Sort::ClientPorts => vec![
            "check_port_exhaustion --mode both --explain      # on the proxy".to_owned(),
            format!("check_nginx_upstream_bind -f {log} -vv"),
        ],
        Sort::DeadBackend => vec![format!("check_http_retry -I {address} -p {port} --attempts 20      # on the proxy")],
        Sort::FileDescriptors => vec![
            "grep 'open files' /proc/$(pgrep -o nginx)/limits; ls /proc/$(pgrep -n nginx)/fd | wc -l".to_owned(),
            format!("check_nginx_upstream_bind -f {log} --cause no-file-descriptors"),
        ],
        Sort::WorkerConnections => vec!["nginx -T | grep -E 'worker_(connections|processes|rlimit)'".to_owned()],
        Sort::SlowUpstream => vec![format!("check_http_retry -I {address} -p {port} --attempts 50 --percentile 95 -w 1 -c 5      # on the proxy")],
        Sort::UpstreamCloses => vec![format!("check_http_retry -I {address} -p {port} --attempts 100 --keepalive      # on the proxy; then the backend's own log")],
        Sort::Certificate => vec![format!("check_http_retry -H NAME -I {address} -p {port} -S --sni -C 14      # for each address")],
        Sort::Dns => vec![
            "for n in $(seq 20); do dig +short NAME @RESOLVER; done | sort | uniq -c      # as nginx' resolver".to_owned(),
            "check_http_retry -H NAME --all-addresses --attempts 20".to_owned(),
        ],
        Sort::Configuration => vec!["nginx -T | grep -E 'proxy_bind|proxy_pass|server |listen'".to_owned()],
    }
}

/// What to look for where nothing says why.
pub fn unknown(facts: &Facts<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    if !facts
        .plan
        .inputs
        .iter()
        .any(|input| input.kind == Kind::Error)
    {
        texts.push(
            "incident_timeline ... --error-log /var/log/nginx/error.log      # it says why"
                .to_owned(),
        );
    }
    texts
        .push("check_http_retry -H NAME --until critical --evidence DIR --journal FILE".to_owned());
    texts
}

fn error_log(facts: &Facts<'_>) -> String {
    let logs = facts
        .plan
        .inputs
        .iter()
        .find(|input| input.kind == Kind::Error);
    let path = logs.map(|input| input.path.display().to_string());
    path.filter(|path| harmless(path.as_bytes()).is_some())
        .unwrap_or_else(|| "/var/log/nginx/error.log".to_owned())
}

/// A text that no shell makes anything of.
fn harmless(text: &[u8]) -> Option<&str> {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b".:[]_-/".contains(byte);
    let text = std::str::from_utf8(text).ok()?;
    (!text.starts_with('-') && text.len() <= 100 && text.bytes().all(|byte| good(&byte)))
        .then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_a_command() {
        for (text, good) in [
            ("10.0.0.1:80", true),
            ("[::1]:80", true),
            ("$(reboot)", false),
            ("-x", false),
            ("a b", false),
            ("a;b", false),
        ] {
            assert_eq!(harmless(text.as_bytes()).is_some(), good, "{text}");
        }
    }
}
