//! Tenants.

use std::sync::Arc;

use super::{
    Api, Caller, Fault,
    fields::{Fields, Place},
    render,
};
use crate::{
    domain::{
        Tenant,
        registry::{Administration, Entry, Quotas, Record, RecordKind, TenantEntry, is_tenant},
        wording::Sentence,
    },
    proto::v1,
    store::RecordQuery,
};

impl Api {
    /// `CreateTenant`.
    pub(crate) async fn create_tenant(
        &self,
        caller: &Caller,
        request: v1::CreateTenantRequest,
    ) -> Result<v1::CreateTenantResponse, Fault> {
        let v1::Tenant {
            name,
            disabled,
            quotas,
            create_time: _,
        } = request.tenant.unwrap_or_default();
        let mut fields = Fields::default();
        fields.tenant("tenant.name", &name);
        if disabled {
            let description = Sentence::plain("not-at-first", "can be set later, by UpdateTenant");
            fields.bad("tenant.disabled", description);
        }
        fields.check()?;
        let act = Administration::CreateTenant {
            name: Tenant::new(&name),
            quotas: quotas.map(self::quotas).unwrap_or_default(),
        };
        let tenant = self.administer(caller, act).await?;
        Ok(v1::CreateTenantResponse {
            tenant: tenant.and_then(shown),
        })
    }

    /// `UpdateTenant`.
    pub(crate) async fn update_tenant(
        &self,
        caller: &Caller,
        request: v1::UpdateTenantRequest,
    ) -> Result<v1::UpdateTenantResponse, Fault> {
        let v1::UpdateTenantRequest {
            name,
            quotas,
            disabled,
        } = request;
        let mut fields = Fields::default();
        fields.tenant("name", &name);
        fields.check()?;
        let act = Administration::UpdateTenant {
            name: Tenant::new(&name),
            quotas: quotas.map(self::quotas),
            is_disabled: disabled,
        };
        let tenant = self.administer(caller, act).await?;
        self.authenticator.look_again_at_all().await;
        Ok(v1::UpdateTenantResponse {
            tenant: tenant.and_then(shown),
        })
    }

    /// `ListTenants`.
    pub(crate) async fn list_tenants(
        &self,
        request: v1::ListTenantsRequest,
    ) -> Result<v1::ListTenantsResponse, Fault> {
        let v1::ListTenantsRequest {
            page_size,
            page_token,
        } = request;
        let place = Place {
            engine: &self.engine,
            purpose: b"tenants",
            tenant: None,
        };
        let (limit, after) = place.read(page_size, &page_token)?;
        let query = RecordQuery {
            kind: RecordKind::Tenant,
            tenant: None,
            after,
            limit: limit + 1,
        };
        let mut records = self.engine.records(query).await?;
        let next_page_token = place.next(&mut records, limit, |record| record.key().id.to_string());
        Ok(v1::ListTenantsResponse {
            tenants: records.into_iter().filter_map(shown).collect(),
            next_page_token,
        })
    }

    /// Changes a record for a caller.
    pub(super) async fn administer(
        &self,
        caller: &Caller,
        act: Administration,
    ) -> Result<Option<Record>, Fault> {
        Ok(self.engine.administer(act, Some(caller.actor())).await?)
    }
}

fn quotas(quotas: v1::Quotas) -> Quotas {
    let v1::Quotas {
        submits_per_second,
        open_jobs,
        stored_bytes,
        watches,
        connections,
    } = quotas;
    Quotas {
        submits_per_second,
        open_jobs,
        stored_bytes,
        watches,
        connections,
    }
}

fn shown(record: Record) -> Option<v1::Tenant> {
    let Entry::Tenant(TenantEntry {
        name,
        is_disabled,
        quotas,
        create_time,
    }) = record.entry
    else {
        return None;
    };
    let Quotas {
        submits_per_second,
        open_jobs,
        stored_bytes,
        watches,
        connections,
    } = quotas;
    Some(v1::Tenant {
        name: name.to_string(),
        disabled: is_disabled,
        quotas: Some(v1::Quotas {
            submits_per_second,
            open_jobs,
            stored_bytes,
            watches,
            connections,
        }),
        create_time: Some(render::time(create_time)),
    })
}

impl Fields {
    /// A tenant's name.
    pub(super) fn tenant(&mut self, field: &str, name: &str) {
        if !is_tenant(name) {
            let description = Sentence::plain(
                "tenant-name",
                "must be 1 to 63 characters of [a-z0-9-], with a letter or digit at both ends",
            );
            self.bad(field, description);
        }
    }

    /// The tenant whose matters are asked for: the one that is named, or all that the caller reaches; another's are nobody's.
    pub(super) fn reached(
        &mut self,
        named: &str,
        reach: Option<Tenant>,
    ) -> Result<Option<Tenant>, Fault> {
        if named.is_empty() {
            return Ok(reach);
        }
        self.tenant("tenant", named);
        let named = Tenant(Arc::from(named));
        match reach {
            Some(own) if own != named => {
                Err(crate::domain::command::Refusal::TenantNotFound(named).into())
            }
            Some(_) | None => Ok(Some(named)),
        }
    }
}
