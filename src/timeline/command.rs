//! What of a plugin's command line is shown: the program, and what it looked at. All else may be a password, and so may
//! what the same letter means to another program: `-p` is check_http's port and check_mysql's password.

use std::net::IpAddr;

use memchr::{memchr, memrchr};

/// Plugins whose `-p` is a port, as their help has it.
const PORT: [&[u8]; 25] = [
    b"check_http",
    b"check_http_retry",
    b"check_curl",
    b"check_tcp",
    b"check_udp",
    b"check_ssh",
    b"check_by_ssh",
    b"check_ftp",
    b"check_smtp",
    b"check_ssmtp",
    b"check_imap",
    b"check_simap",
    b"check_pop",
    b"check_spop",
    b"check_nntp",
    b"check_nntps",
    b"check_jabber",
    b"check_clamd",
    b"check_ldap",
    b"check_ldaps",
    b"check_snmp",
    b"check_nrpe",
    b"check_ntp_time",
    b"check_ntp_peer",
    b"check_dig",
];

/// Plugins whose `-u` is a path or a URL, and whose `-I` is an address.
const WEB: [&[u8]; 3] = [b"check_http", b"check_http_retry", b"check_curl"];

/// What a plugin looked at.
pub struct Shown {
    /// The program without its folder, and behind it host, address, port and path as they stand.
    pub name: Vec<u8>,
    /// The address that it was told.
    pub address: Option<Vec<u8>>,
}

/// What is shown of `'/usr/lib/nagios/plugins/check_http' '-I' '192.0.2.7'`, which is how Icinga writes it.
pub fn shown(command: &[u8]) -> Option<Shown> {
    let words: Vec<&[u8]> = command
        .split(|byte| *byte == b'\'')
        .skip(1)
        .step_by(2)
        .take(100)
        .collect();
    let program = words.first()?;
    let program = &program[memrchr(b'/', program).map_or(0, |at| at + 1)..];
    let mut name = program.to_vec();
    let mut address = None;
    for pair in words.windows(2) {
        let Some(value) = argument(program, pair[0], pair[1]) else {
            continue;
        };
        name.push(b' ');
        name.extend_from_slice(&value);
        if matches!(pair[0], b"-I" | b"--IP-address") {
            address = Some(value);
        }
    }
    Some(Shown { name, address })
}

/// What is shown of an option's value.
fn argument(program: &[u8], option: &[u8], value: &[u8]) -> Option<Vec<u8>> {
    let is_web = || WEB.contains(&program);
    match option {
        b"-H" | b"--hostname" | b"--IP-address" => host(value).map(<[u8]>::to_vec),
        b"-I" if is_web() => host(value).map(<[u8]>::to_vec),
        b"--port" => is_port(value).then(|| value.to_vec()),
        b"-p" if PORT.contains(&program) => is_port(value).then(|| value.to_vec()),
        b"-u" | b"--url" if is_web() => path(value),
        _ => None,
    }
}

fn is_port(value: &[u8]) -> bool {
    (1..=5).contains(&value.len()) && value.iter().all(u8::is_ascii_digit)
}

/// A host without the user before it, with a port behind it or not. Some plugins' `-H` is a header: that is none.
fn host(value: &[u8]) -> Option<&[u8]> {
    let value = &value[memrchr(b'@', value).map_or(0, |at| at + 1)..];
    let bare = match memrchr(b':', value) {
        Some(colon) if is_port(&value[colon + 1..]) => &value[..colon],
        _ => value,
    };
    let is_name = |text: &[u8]| {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte) || *byte > 127;
        !text.is_empty() && text.iter().all(fits)
    };
    let is_address = |text: &[u8]| {
        let text = text.strip_prefix(b"[").unwrap_or(text);
        let text = text.strip_suffix(b"]").unwrap_or(text);
        let text = &text[..memchr(b'%', text).unwrap_or(text.len())];
        std::str::from_utf8(text).is_ok_and(|text| text.parse::<IpAddr>().is_ok())
    };
    (is_name(bare) || is_address(bare) || is_address(value)).then_some(value)
}

/// A path, or a URL without the user in it, up to where parameters begin: those may be secrets, too.
fn path(value: &[u8]) -> Option<Vec<u8>> {
    let until = |text: &[u8], ends: &[u8]| text.iter().position(|byte| ends.contains(byte));
    let plain = |path: &[u8]| path[..until(path, b"?#;").unwrap_or(path.len())].to_vec();
    if value.starts_with(b"/") {
        return Some(plain(value));
    }
    let mut schemes = [&b"http://"[..], b"https://"].into_iter();
    let scheme = schemes.find(|scheme| value.starts_with(scheme))?;
    let rest = &value[scheme.len()..];
    let (authority, path) = rest.split_at(until(rest, b"/?#").unwrap_or(rest.len()));
    // A password with a slash in it makes a path of its end.
    if memchr(b'@', path).is_some() {
        return None;
    }
    Some([scheme, host(authority)?, &plain(path)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(command: &str) -> String {
        String::from_utf8(shown(command.as_bytes()).unwrap().name).unwrap()
    }

    #[test]
    fn a_port_of_one_plugin_is_the_password_of_another() {
        for (command, expected) in [
            (
                "'/x/check_http' '-I' '192.0.2.7' '-p' '8080' '-u' '/a'",
                "check_http 192.0.2.7 8080 /a",
            ),
            (
                "'/x/check_tcp' '-H' 'db1' '-p' '3306'",
                "check_tcp db1 3306",
            ),
            (
                "'/x/check_mysql' '-H' 'db1' '-p' 'S3cretPw' '-u' 'icinga'",
                "check_mysql db1",
            ),
            (
                "'/x/check_mysql' '-H' 'db1' '-p' '4711' '-u' '/icinga'",
                "check_mysql db1",
            ),
            (
                "'/x/check_pgsql' '-H' 'db1' '--port' '5432' '-p' '4711'",
                "check_pgsql db1 5432",
            ),
            (
                "'/x/check_radius' '-H' 'rad1' '-p' 'R4diusPw' '-u' 'icinga'",
                "check_radius rad1",
            ),
            ("'/usr/bin/sudo' '/x/check_http' '-p' '80'", "sudo"),
            (
                "'/x/check_x' '-I' 'S3cretPw' '--port' 'S3cretPw'",
                "check_x",
            ),
            (
                "'/x/check_http' '-p' 'S3cretPw' '-p' '123456'",
                "check_http",
            ),
        ] {
            assert_eq!(name(command), expected);
        }
    }

    #[test]
    fn of_a_url_neither_user_nor_parameters_are_shown() {
        for (url, expected) in [
            ("https://me:pw@host/x", "check_http https://host/x"),
            ("http://me:p@w@host:81/x?a=b@c", "check_http"),
            (
                "http://me:p@w@host:81/x?token=s",
                "check_http http://host:81/x",
            ),
            (
                "https://[2001:db8::1]:8443",
                "check_http https://[2001:db8::1]:8443",
            ),
            ("https://me:p/w@host/x", "check_http"),
            ("https://me:p?w@host/x", "check_http"),
            ("https://me:p#w", "check_http"),
            ("/a?token=s", "check_http /a"),
            ("/a;jsessionid=s", "check_http /a"),
            ("/a#token=s", "check_http /a"),
            ("/@me/a", "check_http /@me/a"),
            ("me:pw", "check_http"),
            ("", "check_http"),
        ] {
            assert_eq!(
                name(&format!("'/x/check_http' '-u' '{url}'")),
                expected,
                "{url}"
            );
        }
    }

    #[test]
    fn what_stands_for_a_host_is_one() {
        for (value, expected) in [
            ("web1.example", Some("web1.example")),
            ("me:pw@web1", Some("web1")),
            ("web1:8080", Some("web1:8080")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("fe80::1%eth0", Some("fe80::1%eth0")),
            ("bücher.example", Some("bücher.example")),
            ("Authorization: Bearer S3cret", None),
            ("X-Key:S3cret", None),
            ("https://me/S3cret", None),
            ("", None),
        ] {
            let found = host(value.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{value}");
        }
    }

    #[test]
    fn an_address_is_known_as_one() {
        let shown = shown(b"'check_http' '-H' 'a' '-I' '192.0.2.7'").unwrap();
        assert_eq!(shown.name, b"check_http a 192.0.2.7");
        assert_eq!(shown.address.unwrap(), b"192.0.2.7");
    }
}
