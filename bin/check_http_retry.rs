//! check_http_retry: see the library.
#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

proxy_checks::plugin_main!(&proxy_checks::http::PLUGIN);
