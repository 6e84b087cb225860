//! check_nginx_upstream_bind: see the library.
#![cfg_attr(all(target_os = "linux", target_env = "gnu"), no_main)]

proxy_checks::plugin_main!(&proxy_checks::nginx::PLUGIN);
