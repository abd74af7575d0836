//! What there is to be called, and who may: read from the descriptors that are served.

use std::sync::LazyLock;

use longhaul::proto::{DESCRIPTORS, json::POOL, v1::Role};
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// What is served besides the contract's own.
static FOREIGN: LazyLock<[DescriptorPool; 3]> = LazyLock::new(|| {
    [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ]
    .map(|set| DescriptorPool::decode(set).unwrap())
});

/// What a method asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    Nothing,
    Credential,
    Role(Role),
    /// To administer all tenants.
    Operator,
}

/// The roles, without the one that is not said.
pub const ROLES: [Role; 6] = [
    Role::Submit,
    Role::Read,
    Role::Work,
    Role::Cancel,
    Role::Admin,
    Role::Audit,
];

/// A method.
#[derive(Clone, Debug)]
pub struct Method {
    pub descriptor: MethodDescriptor,
    pub asks: Asks,
}

/// A form that a method has in plain HTTP.
#[derive(Clone, Debug)]
pub struct Form {
    pub method: Method,
    pub verb: String,
    pub path: String,
    /// The field that is the body; `*` is all, empty is none.
    pub body: String,
}

impl Asks {
    /// Whether a credential with this role alone, for its own tenant, is enough.
    pub fn is_given_by(self, role: Role) -> bool {
        match self {
            Self::Nothing | Self::Credential => true,
            Self::Role(asked) => asked == role,
            Self::Operator => false,
        }
    }

    /// Whether whoever reaches all tenants reaches them here.
    pub fn is_wide(self) -> bool {
        matches!(
            self,
            Self::Operator | Self::Role(Role::Work | Role::Admin | Role::Audit)
        )
    }

    fn named(name: &str) -> Self {
        let rest = name.strip_prefix("PERMISSION_").unwrap();
        match rest {
            "OPEN" => Self::Nothing,
            "IDENTIFIED" => Self::Credential,
            "OPERATE" => Self::Operator,
            role => Self::Role(Role::from_str_name(&format!("ROLE_{role}")).expect(name)),
        }
    }
}

impl Method {
    /// As in `JobService.Get`.
    pub fn name(&self) -> String {
        let service = self.descriptor.parent_service();
        format!("{}.{}", service.name(), self.descriptor.name())
    }

    pub fn path(&self) -> String {
        let service = self.descriptor.parent_service();
        format!("/{}/{}", service.full_name(), self.descriptor.name())
    }

    pub fn may_last(&self) -> bool {
        self.descriptor.is_server_streaming()
    }
}

/// Every method that is served.
pub fn methods() -> Vec<Method> {
    let own = own();
    let foreign = FOREIGN.iter().flat_map(|pool| {
        let services = pool.services().collect::<Vec<_>>().into_iter();
        services.flat_map(|service| {
            let asks = match service.package_name() {
                "grpc.health.v1" => Asks::Nothing,
                "grpc.reflection.v1" | "grpc.reflection.v1alpha" => Asks::Credential,
                other => panic!("who may call {other}?"),
            };
            let methods = service.methods().collect::<Vec<_>>().into_iter();
            methods.map(move |descriptor| Method { descriptor, asks })
        })
    });
    own.into_iter().chain(foreign).collect()
}

/// Every method of the contract. One that does not say what it asks for stops the test.
pub fn own() -> Vec<Method> {
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let permission = pool.get_extension_by_name("longhaul.v1.permission");
    let permission = permission.expect("the contract has the option");
    let names = pool.get_enum_by_name("longhaul.v1.Permission").unwrap();
    let methods = pool
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>());
    let methods = methods.map(|descriptor| {
        let options = descriptor.options();
        let full_name = descriptor.full_name();
        assert!(options.has_extension(&permission), "{full_name}");
        let number = options.get_extension(&permission).as_enum_number().unwrap();
        let asks = Asks::named(names.get_value(number).unwrap().name());
        Method { descriptor, asks }
    });
    methods.collect()
}

/// Every form that the contract gives its methods in plain HTTP.
pub fn forms() -> Vec<Form> {
    let http = POOL.get_extension_by_name("google.api.http").unwrap();
    let forms = own().into_iter().flat_map(|method| {
        let name = method.descriptor.full_name();
        let descriptor = POOL
            .services()
            .flat_map(|s| s.methods().collect::<Vec<_>>())
            .find(|m| m.full_name() == name)
            .unwrap();
        let options = descriptor.options();
        let rule = options.get_extension(&http);
        let rule = rule.as_message().unwrap();
        let more = rule.get_field_by_name("additional_bindings").unwrap();
        let more = more.as_list().unwrap();
        let rules = std::iter::once(rule).chain(more.iter().filter_map(Value::as_message));
        let forms = rules.filter_map(|rule| form(&method, rule));
        forms.collect::<Vec<_>>()
    });
    forms.collect()
}

fn form(method: &Method, rule: &DynamicMessage) -> Option<Form> {
    let text = |name: &str| {
        let value = rule.get_field_by_name(name).unwrap();
        value.as_str().unwrap().to_owned()
    };
    let mut verbs = ["get", "put", "post", "delete", "patch"].into_iter();
    let verb = verbs.find(|verb| !text(verb).is_empty())?;
    Some(Form {
        method: method.clone(),
        verb: verb.to_uppercase(),
        path: text(verb),
        body: text("body"),
    })
}
