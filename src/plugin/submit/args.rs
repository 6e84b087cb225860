//! The options of `--submit`.

use std::path::PathBuf;
use std::time::Duration;

use crate::plugin::options::parse_positive_duration;

/// Where results go as passive check results, and how. They are for command lines: a check that Icinga itself starts
/// has its result there already.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Passive results (Icinga 2 API)")]
pub struct SubmitArgs {
    /// Send each result to the API of this Icinga 2: https, the host, and mostly port 5665
    #[arg(long, value_name = "URL", requires = "submit_service")]
    pub submit: Option<String>,

    /// The service that the results are of
    #[arg(long, value_name = "HOST!SERVICE", requires = "submit")]
    pub submit_service: Option<String>,

    /// The PEM file of the authority to trust: Icinga's own, /var/lib/icinga2/certs/ca.crt on its host
    #[arg(long, value_name = "FILE", requires = "submit")]
    pub submit_ca: Option<PathBuf>,

    /// Connect to this name or address; that of the URL stays the one that the certificate must be for
    #[arg(long, value_name = "ADDRESS", requires = "submit")]
    pub submit_address: Option<String>,

    /// The ApiUser; its password comes from a file or from PROXY_CHECKS_SUBMIT_PASSWORD in the environment
    #[arg(long, value_name = "NAME", requires = "submit")]
    pub submit_user: Option<String>,

    /// A file with the ApiUser's password
    #[arg(long, value_name = "FILE", requires = "submit_user")]
    pub submit_password_file: Option<PathBuf>,

    /// A PEM file with the client certificate of an ApiUser with client_cn
    #[arg(long, value_name = "FILE", requires_all = ["submit", "submit_key"])]
    pub submit_cert: Option<PathBuf>,

    /// A PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "submit_cert")]
    pub submit_key: Option<PathBuf>,

    /// Icinga is to expect the next result within this time [default: the service's check_interval]
    #[arg(long, value_name = "DURATION", requires = "submit", value_parser = parse_positive_duration)]
    pub submit_ttl: Option<Duration>,

    /// The folder for results that wait to be sent [default: beside the state files]
    #[arg(long, value_name = "FOLDER", requires = "submit")]
    pub submit_queue: Option<PathBuf>,

    /// How many results may wait; then the oldest OK ones are dropped [default: 10000]
    #[arg(long, value_name = "NUMBER", requires = "submit", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub submit_queue_limit: Option<u32>,
}
