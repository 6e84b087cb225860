//! scratch
use crate::support::icinga::Icinga;
use crate::support::incident::*;
#[test]
fn scratch() {
    let t = std::time::Instant::now();
    let i = Incident::start(Kind::Connect);
    let ic = Icinga::start(
        &i.proxy,
        r#"
object Host "proxy1" { check_command = "dummy" }
object Service "http" { host_name = "proxy1"
 check_command = "http_retry" 
 enable_active_checks = false
 max_check_attempts = 1 }
"#,
    );
    eprintln!("{:?}", t.elapsed());
    eprintln!("{}", ic.check("proxy1!http"));
    eprintln!("{:?}", ic.perfdata("proxy1!http"));
    eprintln!("{:?}", t.elapsed());
    eprintln!("{:?}", ic.stop());
    eprintln!("{:?}", t.elapsed());
}
