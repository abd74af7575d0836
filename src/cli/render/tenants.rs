//! Tenants, and how much they may use.

use comfy_table::{Cell, Table};
use longhaul::proto::v1::{Quotas, Tenant};

use super::table;
use crate::cli::{
    text::{one_line, tenant_state},
    time,
};

/// Tenants as rows of a table.
pub fn rows(tenants: &[Tenant]) -> Table {
    let mut rows = table::with_header(&[
        "TENANT",
        "STATE",
        "SUBMITS/S",
        "OPEN JOBS",
        "WATCHES",
        "CONNECTIONS",
        "CREATED",
    ]);
    for tenant in tenants {
        let Quotas {
            submits_per_second,
            open_jobs,
            stored_bytes: _,
            watches,
            connections,
        } = tenant.quotas.unwrap_or_default();
        let quota = |quota: Option<u64>| match quota {
            None => Cell::new("default"),
            Some(0) => Cell::new("unlimited"),
            Some(most) => Cell::new(most),
        };
        rows.add_row([
            Cell::new(one_line(&tenant.name)),
            table::coloured(tenant_state(tenant.disabled)),
            quota(submits_per_second.map(u64::from)),
            quota(open_jobs),
            quota(watches.map(u64::from)),
            quota(connections.map(u64::from)),
            Cell::new(
                time::instant(tenant.create_time.as_ref())
                    .map_or_else(String::new, time::to_the_second),
            ),
        ]);
    }
    rows
}

/// A tenant by itself.
pub fn lines(tenant: &Tenant) -> Vec<String> {
    table::lines(&rows(std::slice::from_ref(tenant)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::plain;

    #[test]
    fn a_quota_is_a_number_or_none_or_the_servers() {
        let tenant = Tenant {
            name: "acme".into(),
            disabled: true,
            quotas: Some(Quotas {
                submits_per_second: Some(5),
                watches: Some(0),
                ..Default::default()
            }),
            create_time: Some(prost_types::Timestamp::default()),
        };
        assert_eq!(
            plain(lines(&tenant)),
            [
                "TENANT  STATE     SUBMITS/S  OPEN JOBS  WATCHES    CONNECTIONS  CREATED",
                "acme    DISABLED  5          default    unlimited  default      1970-01-01T00:00:00Z",
            ]
        );
    }
}
