//! The table of roles in docs/security.md says of each method what the contract says.

use std::collections::{BTreeMap, BTreeSet};

use longhaul::proto::json::POOL;

/// Methods by what they ask of their caller, such as `SUBMIT`.
type Table = BTreeMap<String, BTreeSet<String>>;

fn of_the_contract() -> Table {
    let extension = POOL.get_extension_by_name("longhaul.v1.permission");
    let extension = extension.unwrap();
    let permissions = POOL.get_enum_by_name("longhaul.v1.Permission").unwrap();
    let mut table = Table::new();
    let services = POOL.services();
    let services = services.filter(|service| service.package_name() == "longhaul.v1");
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        let number = method.options().get_extension(&extension).as_enum_number();
        let permission = permissions.get_value(number.unwrap()).unwrap();
        let permission = permission.name().replace("PERMISSION_", "");
        let methods = table.entry(permission).or_default();
        methods.insert(method.name().to_owned());
    }
    table
}

/// The rows under the heading "Roles": the permission's name for a row's first cell, and the methods in backticks in its second one.
fn of_the_document(document: &str) -> Table {
    let section = document.split("\n## Roles\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let rows = rows.filter_map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let permission = match cells.next()? {
            "any credential" => "IDENTIFIED".to_owned(),
            "`admin` for all tenants" => "OPERATE".to_owned(),
            role => role.strip_prefix('`')?.strip_suffix('`')?.to_uppercase(),
        };
        let methods = cells.next()?.split('`').skip(1).step_by(2);
        Some((permission, methods.map(str::to_owned).collect()))
    });
    rows.collect()
}

#[test]
fn the_table_of_roles_is_that_of_the_contract() {
    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md");
    let document = std::fs::read_to_string(document).unwrap();
    let contract = of_the_contract();
    assert_eq!(of_the_document(&document), contract);
    assert!(contract["WORK"].contains("Acquire"), "{contract:?}");

    // One that is not right is found out.
    for (before, after) in [("`Acquire`, ", ""), ("`RevokeKey` |", "`Revoke` |")] {
        assert!(document.contains(before), "{before}");
        let wrong = document.replace(before, after);
        assert_ne!(of_the_document(&wrong), contract, "{before}");
    }
}
