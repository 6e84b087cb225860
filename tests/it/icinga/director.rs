//! The basket for Icinga Director: made of the shipped configuration, so that an option is written down once, and
//! restored by a real Director.
//!
//! After a change of `commands.conf` or `templates.conf`:
//!
//! ```text
//! WRITE_BASKET=1 cargo test --test it the_basket_is_what
//! ```

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};

use crate::docs::shown;
use crate::support::director::Director;
use crate::support::icinga::conf::{Block, blocks};
use crate::support::icinga::setup::shipped;
use crate::support::plugin::project;
use crate::support::skip::skip;

const FILE: &str = "icinga2-conf/director-basket.json";

/// The basket: commands, the fields of their custom variables, and service templates.
///
/// Without uuids: Director 1.10 does not restore objects that have them, and makes fields anew each time; later ones do
/// without.
fn basket() -> Value {
    let mut fields = Map::new();
    let commands = blocks(&shipped("commands.conf"), "object CheckCommand");
    let commands: Map<_, _> = commands
        .iter()
        .map(|block| (block.name.clone(), command(block, &mut fields)))
        .collect();
    let templates = blocks(&shipped("templates.conf"), "template Service");
    let known = |block: &&Block| {
        // The command that they use is the ITL's, which a Director knows only after its kick-start.
        let command = block
            .attributes
            .get("check_command")
            .and_then(Value::as_str);
        command.is_none_or(|command| commands.contains_key(command))
    };
    let templates: Map<_, _> = templates
        .iter()
        .filter(known)
        .map(|block| (block.name.clone(), template(block)))
        .collect();
    json!({"Command": commands, "ServiceTemplate": templates, "Datafield": fields})
}

fn command(block: &Block, fields: &mut Map<String, Value>) -> Value {
    let mut own = Vec::new();
    let mut arguments = Map::new();
    for (name, argument) in block.attributes["arguments"]
        .as_object()
        .expect("a dictionary")
    {
        if let Some(field) = field(&block.name, name, argument) {
            let known = fields
                .values()
                .any(|other| other["varname"] == field["varname"]);
            if !known {
                let id = (fields.len() + 1).to_string();
                own.push(json!({"datafield_id": fields.len() + 1, "is_required": "n", "var_filter": null}));
                fields.insert(id, field);
            }
        }
        let mut argument = argument.clone();
        // The Director takes an expression for what it is only by its format.
        if let Some(body) = argument["set_if"].get("body").cloned() {
            argument["set_if"] = body;
            argument["set_if_format"] = "expression".into();
        }
        arguments.insert(name.clone(), argument);
    }
    let mut vars = block.vars.clone();
    // Of the template "ipv4-or-ipv6", which the Director does not have.
    vars.retain(|name, _| !name.starts_with("check_ipv"));
    for value in vars
        .values_mut()
        .filter(|value| **value == "$check_address$")
    {
        *value = "$address$".into();
    }
    // Behind PluginDir: the Director puts that before a command without a slash.
    json!({
        "arguments": arguments,
        "command": format!("check_{}", block.name),
        "fields": own,
        "methods_execute": "PluginCheck",
        "object_name": block.name,
        "object_type": "object",
        "timeout": block.attributes["timeout"].to_string(),
        "vars": vars,
        "zone": null,
    })
}

/// The field for the one custom variable that an argument names.
fn field(command: &str, option: &str, argument: &Value) -> Option<Value> {
    let text = argument.to_string();
    let variable = text
        .split('$')
        .find(|word| word.starts_with(&format!("{command}_")))?;
    let text = |text: &str| format!("Icinga\\Module\\Director\\DataType\\DataType{text}");
    let (datatype, settings) = if variable.ends_with("_verbose") {
        (text("Number"), json!({}))
    } else if argument["set_if"].is_string() {
        (text("Boolean"), json!({}))
    } else if argument["repeat_key"] == true {
        (text("Array"), json!({}))
    } else {
        (text("String"), json!({"visibility": "visible"}))
    };
    Some(json!({
        "varname": variable,
        "caption": format!("{command} {}", if option == "-v" { "--verbose" } else { option }),
        "description": argument["description"],
        "datatype": datatype,
        "format": null,
        "settings": settings,
        "category": null,
    }))
}

fn template(block: &Block) -> Value {
    let mut template = block.attributes.clone();
    for value in template.values_mut().filter(|value| value.is_u64()) {
        *value = value.to_string().into();
    }
    // What looks at the proxy itself has to run there.
    if ["client-ports-service", "nginx-upstream-service"].contains(&&*block.name) {
        template.insert("use_agent".to_owned(), true.into());
    }
    template.insert("imports".to_owned(), json!(block.imports));
    template.insert("object_name".to_owned(), json!(block.name));
    template.insert("object_type".to_owned(), "template".into());
    template.insert("fields".to_owned(), json!([]));
    template.insert("vars".to_owned(), json!(block.vars));
    template.into()
}

#[test]
fn the_basket_is_what_the_shipped_configuration_makes() {
    let wanted = serde_json::to_string_pretty(&basket()).expect("it is JSON") + "\n";
    let path = project().join(FILE);
    if std::env::var_os("WRITE_BASKET").is_some() {
        fs::write(&path, &wanted).expect("the project can be written to");
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == wanted,
        "{FILE} is not up to date: WRITE_BASKET=1 cargo test --test it the_basket_is_what"
    );
    assert!(!wanted.contains("uuid"));
}

/// How many objects of each kind the Director has.
fn counts(director: &Director) -> BTreeMap<&'static str, String> {
    let tables = [
        "icinga_command",
        "icinga_command_argument",
        "icinga_service",
        "icinga_command_field",
        "director_datafield",
    ];
    tables
        .iter()
        .map(|table| {
            (
                *table,
                director.sql(&format!("select count(*) from {table}")),
            )
        })
        .collect()
}

#[test]
fn a_real_director_restores_the_basket_twice_and_icinga_takes_what_it_makes_of_it() {
    let director = match Director::start() {
        Ok(director) => director,
        Err(why) => return skip(&why),
    };
    let basket = fs::read_to_string(project().join(FILE)).expect("it is shipped");
    let command = "icingacli director basket restore < director-basket.json";
    assert_eq!(shown("icinga.md", command, &[]), command);
    director.restore(&basket);
    let first = counts(&director);
    let fields = basket.matches("\"varname\"").count();
    assert_eq!(first["director_datafield"], fields.to_string(), "{first:?}");
    assert_eq!(
        first["icinga_command_field"],
        fields.to_string(),
        "{first:?}"
    );
    let arguments = shipped("commands.conf").matches("\n\t\t\"-").count();
    assert_eq!(
        first["icinga_command_argument"],
        arguments.to_string(),
        "{first:?}"
    );
    director.restore(&basket);
    assert_eq!(counts(&director), first);

    // As somebody would click it together: a proxy with an agent, and the three services.
    let create = |kind: &str, name: &str, object: Value| {
        director.cli(&[kind, "create", name, "--json", &object.to_string()], "");
    };
    let host = "proxy1.example";
    create(
        "host",
        host,
        json!({
            "object_type": "object", "address": "192.0.2.2", "check_command": "http_retry", "has_agent": true,
            "accept_config": true, "master_should_connect": true,
        }),
    );
    for (name, template, vars) in [
        (
            "http-service1",
            "http-retry-service",
            json!({"http_retry_ssl": "1.2+", "http_retry_header": ["X-One: 1"]}),
        ),
        (
            "client-ports",
            "client-ports-service",
            json!({"port_exhaustion_explain": true}),
        ),
        ("nginx-upstream", "nginx-upstream-service", json!({})),
    ] {
        create(
            "service",
            name,
            json!({"object_type": "object", "host": host, "imports": [template], "vars": vars}),
        );
    }
    let files = director.render();
    let (taken, output) = director.validate(&files);
    assert!(taken, "{output}");
    let text: String = files.into_iter().map(|(_, text)| text).collect();
    for part in [
        "PluginDir + \"/check_http_retry\"",
        "    max_check_attempts = \"1\"\n",
        "    check_command = \"http_retry\"\n    check_interval = 15s\n",
        "    check_timeout = 1m\n",
        "vars.http_retry_duration = \"45s\"",
        "vars.http_retry_ip_address = \"$address$\"",
        "                var ssl = macro(\"$http_retry_ssl$\"); ssl == true || ssl == \"true\"\n",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // On the proxy: the ports and the log alone.
    assert_eq!(
        text.matches("command_endpoint = host_name").count(),
        2,
        "{text}"
    );
}
