//! Who calls, and what they may do.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Tenant, reach::Reach};

/// What a credential lets its holder do. The order is that of the proto enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Submit jobs, and run them again.
    Submit,
    /// Read and follow jobs.
    Read,
    /// Lease tasks, and report on them.
    Work,
    /// Cancel and delete jobs.
    Cancel,
    /// Make and revoke keys.
    Admin,
    /// Read the audit log.
    Audit,
}

impl Role {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 6] = [
        Self::Submit,
        Self::Read,
        Self::Work,
        Self::Cancel,
        Self::Admin,
        Self::Audit,
    ];

    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Work => "work",
            Self::Cancel => "cancel",
            Self::Admin => "admin",
            Self::Audit => "audit",
        }
    }

    /// The one with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it may reach all tenants. What jobs hold is for their tenant alone.
    pub fn may_reach_all(self) -> bool {
        match self {
            Self::Work | Self::Admin | Self::Audit => true,
            Self::Submit | Self::Read | Self::Cancel => false,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of roles.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roles(u8);

impl Roles {
    /// All of them.
    pub fn all() -> Self {
        Role::ALL.into_iter().collect()
    }

    /// Whether it is one of them.
    pub fn has(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    /// Those that are in it, in order.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.has(*role))
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }

    /// Whether the other set has no role that this one has not.
    pub fn includes(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        let bits = roles.into_iter().map(|role| 1 << role as u8);
        Self(bits.fold(0, |all, bit| all | bit))
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// What a method asks of its caller. The order is that of the proto enum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Nothing: for probes.
    Open,
    /// A credential, whatever its roles.
    Identified,
    /// [`Role::Submit`].
    Submit,
    /// [`Role::Read`].
    Read,
    /// [`Role::Work`].
    Work,
    /// [`Role::Cancel`].
    Cancel,
    /// [`Role::Admin`].
    Admin,
    /// [`Role::Audit`].
    Audit,
    /// [`Role::Admin`] for all tenants.
    Operate,
}

impl Permission {
    /// All of them, in the order of the proto enum.
    pub const ALL: [Self; 9] = [
        Self::Open,
        Self::Identified,
        Self::Submit,
        Self::Read,
        Self::Work,
        Self::Cancel,
        Self::Admin,
        Self::Audit,
        Self::Operate,
    ];

    /// The role that it takes, if it takes one.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Open | Self::Identified => None,
            Self::Submit => Some(Role::Submit),
            Self::Read => Some(Role::Read),
            Self::Work => Some(Role::Work),
            Self::Cancel => Some(Role::Cancel),
            Self::Admin | Self::Operate => Some(Role::Admin),
            Self::Audit => Some(Role::Audit),
        }
    }
}

/// The holder of a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// What it is called in the audit log, such as `key:1f3a…`.
    pub name: Arc<str>,
    /// The tenant that it acts for.
    pub tenant: Tenant,
    /// What it may do.
    pub roles: Roles,
    /// The drivers whose tasks it may take; `None` is all.
    pub drivers: Option<Arc<[Arc<str>]>>,
    /// Works, administers and audits for all tenants, as far as it has these roles.
    pub everywhere: bool,
}

impl Principal {
    /// Whether a method that asks for this may be called.
    pub fn may(&self, permission: Permission) -> bool {
        let has_role = permission.role().is_none_or(|role| self.roles.has(role));
        has_role && (permission != Permission::Operate || self.everywhere)
    }

    /// Whose tasks it may work on, if it may at all.
    pub fn work(&self) -> Reach {
        Reach {
            tenant: self.reach(Role::Work),
            drivers: self.drivers.clone(),
        }
    }

    /// The tenants that a role reaches: its own, or all, which is `None`.
    pub fn reach(&self, role: Role) -> Option<Tenant> {
        let is_own = !(self.everywhere && role.may_reach_all());
        is_own.then(|| self.tenant.clone())
    }
}

/// Who has something changed, and from where: what the audit log says of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// [`Principal::name`].
    pub name: Arc<str>,
    /// The tenant that it acts for.
    pub tenant: Tenant,
    /// Where the call came from, an IP address; empty if it is not known.
    pub address: String,
    /// What names the call in logs.
    pub request_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(roles: &[Role], everywhere: bool) -> Principal {
        Principal {
            name: "key:a".into(),
            tenant: Tenant::new("a"),
            roles: roles.iter().copied().collect(),
            drivers: None,
            everywhere,
        }
    }

    #[test]
    fn a_role_gives_what_asks_for_it_and_nothing_else() {
        for role in Role::ALL {
            for permission in Permission::ALL {
                let is_given = match permission {
                    Permission::Open | Permission::Identified => true,
                    Permission::Operate => false,
                    permission => permission.role() == Some(role),
                };
                assert_eq!(holder(&[role], false).may(permission), is_given);
                let operates = role == Role::Admin && permission == Permission::Operate;
                assert_eq!(holder(&[role], true).may(permission), is_given || operates);
            }
        }
    }

    #[test]
    fn jobs_are_reached_by_their_tenant_alone() {
        let all = holder(&Role::ALL, true);
        for role in [Role::Submit, Role::Read, Role::Cancel] {
            assert_eq!(all.reach(role), Some(Tenant::new("a")));
        }
        for role in [Role::Work, Role::Admin, Role::Audit] {
            assert_eq!(all.reach(role), None);
            assert_eq!(holder(&[role], false).reach(role), Some(Tenant::new("a")));
        }
    }

    #[test]
    fn a_set_has_what_was_put_in() {
        let roles: Roles = [Role::Audit, Role::Submit].into_iter().collect();
        assert_eq!(
            roles.iter().collect::<Vec<_>>(),
            [Role::Submit, Role::Audit]
        );
        assert!(Roles::all().includes(roles) && !roles.includes(Roles::all()));
        assert!(Roles::default().is_empty() && !roles.is_empty());
        for role in Role::ALL {
            assert_eq!(Role::named(role.name()), Some(role));
        }
    }
}
