//! That nothing that may name something of somebody is forgotten: every field of every request whose name looks like that has a cell, or a reason to have none.

use prost_reflect::{Kind, MessageDescriptor};

use crate::{
    cast::Cast,
    contract::{Asks, own},
    isolation,
    served::On,
    work,
};

/// Fields that name nothing that is kept.
const HARMLESS: [(&str, &str); 3] = [
    (
        "object.id",
        "what jobs are about is in the caller's own terms",
    ),
    ("tasks.object.id", "the same"),
    (
        "CreateKey certificate",
        "is for whoever reaches all tenants",
    ),
];

/// Whether a field of this name may name something that belongs to somebody.
fn names_something(field: &str) -> bool {
    let parts = [
        "id",
        "token",
        "cursor",
        "tenant",
        "tenants",
        "held",
        "acknowledge",
        "certificate",
        "key",
    ];
    // `all_tenants` says how far a key reaches, and names none.
    field != "all_tenants" && field.split('_').any(|part| parts.contains(&part))
}

/// The paths of such fields.
fn fields(message: &MessageDescriptor, prefix: &str, found: &mut Vec<String>) {
    // What callers put into documents is theirs.
    if message.full_name().starts_with("google.") {
        return;
    }
    for field in message.fields() {
        let path = format!("{prefix}{}", field.name());
        match field.kind() {
            Kind::Message(_) if field.is_map() => {}
            Kind::Message(inner) => fields(&inner, &format!("{path}."), found),
            Kind::String | Kind::Bytes if names_something(field.name()) => found.push(path),
            _ => {}
        }
    }
}

#[tokio::test]
async fn every_field_that_may_name_something_is_tried() {
    let cast = Cast::on(On::Memory).await;
    let mut cells = isolation::names(&cast).await;
    cells.extend(work::FIELDS.map(str::to_owned));
    let mut count = 0;
    for method in own() {
        // What only the operator may do is nothing that another tenant could try.
        if method.asks == Asks::Operator {
            continue;
        }
        let mut found = Vec::new();
        fields(&method.descriptor.input(), "", &mut found);
        for field in found {
            let cell = format!("{} {field}", method.name());
            let is_harmless = HARMLESS
                .iter()
                .any(|(harmless, _)| cell.ends_with(harmless));
            assert!(
                cells.contains(&cell) != is_harmless,
                "{cell}: has it a cell, or a reason?"
            );
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
    cast.served.stop().await;
}
