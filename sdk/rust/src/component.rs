//! From ops to a component.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::Failure;
use crate::bindings::opyard::op::types::OpError;
use crate::definition::OpDefinition;
use crate::port::Role;
use crate::{context, definition, events};

/// What `#[op]` makes of a function, under the function's name. Implemented by the macro alone.
///
/// ```
/// use opyard_guest::{Op, Text, op};
///
/// /// Shouts.
/// #[op]
/// fn shout(text: Text) -> Text {
///     Text::new(text.to_uppercase())
/// }
///
/// let definition = <shout as Op>::definition();
/// assert_eq!(definition.description.as_deref(), Some("Shouts."));
/// assert_eq!(definition.inputs[0].name, "text");
/// assert_eq!(definition.outputs[0].name, "result");
/// ```
pub trait Op {
    /// The op's name.
    const NAME: &'static str;

    /// Describes the op. Pure.
    fn definition() -> OpDefinition;

    /// Runs the op: gets the parameters, calls the function, writes the outputs.
    ///
    /// # Errors
    /// Why the op did not succeed.
    fn execute() -> Result<(), Failure>;
}

/// An op without ports.
#[must_use]
pub fn definition(name: &str, description: &str) -> OpDefinition {
    definition::op(name, description)
}

/// A type that the config of an op, or the params of a type checker, can have: what serde reads and schemars describes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the config of an op, nor the params of a type checker",
    label = "lacks `Deserialize`, `JsonSchema` or both",
    note = "say `#[derive(Deserialize, JsonSchema)]` on it, and `#[serde(deny_unknown_fields)]` so that a misspelt key is an error"
)]
pub trait Config: Sized {
    /// Adds the schema to the op's definition.
    fn declare(op: &mut OpDefinition) {
        op.config_schema = Some(Self::schema());
    }

    /// Gets the step's config from the host.
    ///
    /// # Errors
    /// The schema let something pass that the type does not accept.
    fn acquire() -> Result<Self, Failure> {
        Self::parse("config", &context::config())
    }

    /// The JSON Schema of the type.
    fn schema() -> String;

    /// Reads the type from `json`, which is the `what` of the definitions file.
    ///
    /// # Errors
    /// The schema let something pass that the type does not accept.
    fn parse(what: &str, json: &str) -> Result<Self, Failure>;
}

impl<T: DeserializeOwned + JsonSchema> Config for T {
    fn schema() -> String {
        definition::schema::<T>()
    }

    fn parse(what: &str, json: &str) -> Result<Self, Failure> {
        serde_json::from_str(json).map_err(|error| Failure::from(error).while_doing(what).no_retry())
    }
}

/// A default value as JSON.
///
/// # Panics
/// When the value has no JSON form: the author sees it when the component is described.
pub fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("a default value has a JSON form")
}

/// Runs one op of a component and turns its failure into what the host understands.
///
/// # Errors
/// Why the op did not succeed.
pub fn execute(run: fn() -> Result<(), Failure>) -> Result<(), OpError> {
    log_panics();
    run().map_err(Failure::into_op_error)
}

/// Says what a panic says: after it the instance traps, and of a trap the host sees no text.
pub(crate) fn log_panics() {
    std::panic::set_hook(Box::new(|panic| events::log(events::Level::Critical, &panic.to_string(), &[])));
}

/// The host asked for an op that `describe` never told it of.
///
/// # Errors
/// Always.
pub fn unknown(op: &str) -> Result<(), OpError> {
    Err(Failure::new(format!("this component has no op `{op}`")).no_retry().into_op_error())
}

/// Refuses, at compile time, two ops of one name.
pub const fn assert_distinct(names: &[&str]) {
    assert!(distinct(names), "two ops of this component have the same name");
}

/// Refuses, at compile time, two type checkers of one name.
pub const fn assert_checkers_distinct(names: &[&str]) {
    assert!(distinct(names), "two type checkers of this component have the same name");
}

/// Refuses, at compile time, two hooks of one name.
pub const fn assert_hooks_distinct(names: &[&str]) {
    assert!(distinct(names), "two hooks of this component have the same name");
}

const fn distinct(names: &[&str]) -> bool {
    let mut i = 0;
    while i < names.len() {
        let mut j = i + 1;
        while j < names.len() {
            if same(names[i], names[j]) {
                return false;
            }
            j += 1;
        }
        i += 1;
    }
    true
}

/// Refuses, at compile time, an output handle among the parameters that is named like an output that is returned.
pub const fn assert_outputs_distinct(parameters: &[(&str, Role)], single: bool, result: &str, outputs: &[&str]) {
    let mut i = 0;
    while i < parameters.len() {
        let (name, role) = parameters[i];
        if matches!(role, Role::Output) {
            assert!(!(single && same(name, result)), "a parameter and the result are outputs of the same name");
            let mut j = 0;
            while j < outputs.len() {
                assert!(!same(name, outputs[j]), "a parameter and a field of the result are outputs of the same name");
                j += 1;
            }
        }
        i += 1;
    }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Makes the component of a crate of `crate-type = ["cdylib"]`: names its ops, type checkers and hooks, and exports them.
///
/// A component may ship several kinds: `component! { ops: […], type_checkers: […], hooks: […] }`, in any order.
///
/// ```
/// use opyard_guest::{Text, component, op};
///
/// /// Shouts.
/// #[op]
/// fn shout(text: Text) -> Text {
///     Text::new(text.to_uppercase())
/// }
///
/// component! { ops: [shout] }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! component {
    (@ops [$($op:path),+]) => {
        const _: () = {
            struct Component;

            $crate::__private::assert_distinct(&[$(<$op as $crate::Op>::NAME),+]);

            impl $crate::bindings::exports::opyard::op::ops::Guest for Component {
                fn describe() -> ::std::vec::Vec<$crate::definition::OpDefinition> {
                    ::std::vec![$(<$op as $crate::Op>::definition()),+]
                }

                fn execute(
                    op: ::std::string::String,
                ) -> ::core::result::Result<(), $crate::__private::OpError> {
                    $(
                        if op == <$op as $crate::Op>::NAME {
                            return $crate::__private::execute(<$op as $crate::Op>::execute);
                        }
                    )+
                    $crate::__private::unknown(&op)
                }
            }

            // In a unit test on the author's machine there is nobody to export to.
            #[cfg(target_family = "wasm")]
            $crate::bindings::export!(Component with_types_in $crate::bindings);
            #[cfg(not(target_family = "wasm"))]
            const _: fn() -> ::std::vec::Vec<$crate::definition::OpDefinition> =
                <Component as $crate::bindings::exports::opyard::op::ops::Guest>::describe;
        };
    };
    (@type_checkers [$($checker:path),+]) => {
        const _: () = {
            struct Component;

            $crate::__private::assert_checkers_distinct(&[$(<$checker as $crate::TypeChecker>::NAME),+]);

            impl $crate::__private::TypeChecks for Component {
                fn describe() -> ::std::vec::Vec<$crate::definition::ExtensionDefinition> {
                    ::std::vec![$(<$checker as $crate::TypeChecker>::definition()),+]
                }

                fn check(
                    checker: ::std::string::String,
                    value: &$crate::__private::LentReader,
                    params: ::std::string::String,
                ) -> ::core::result::Result<$crate::__private::HostVerdict, $crate::__private::OpError> {
                    $(
                        if checker == <$checker as $crate::TypeChecker>::NAME {
                            return $crate::__private::check(<$checker as $crate::TypeChecker>::check, value, &params);
                        }
                    )+
                    $crate::__private::unknown_checker(&checker)
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::bindings::type_checker::export_type_checkers!(
                Component with_types_in $crate::bindings::type_checker
            );
            #[cfg(not(target_family = "wasm"))]
            const _: fn() -> ::std::vec::Vec<$crate::definition::ExtensionDefinition> =
                <Component as $crate::__private::TypeChecks>::describe;
        };
    };
    (@hooks [$($hook:path),+]) => {
        const _: () = {
            struct Component;

            $crate::__private::assert_hooks_distinct(&[$(<$hook as $crate::Hook>::NAME),+]);

            impl $crate::__private::Hooks for Component {
                fn describe() -> ::std::vec::Vec<$crate::definition::ExtensionDefinition> {
                    ::std::vec![$(<$hook as $crate::Hook>::definition()),+]
                }

                fn handle(
                    hook: ::std::string::String,
                    config: ::std::string::String,
                    occasion: $crate::__private::HostOccasion,
                ) -> ::core::result::Result<(), $crate::__private::OpError> {
                    $(
                        if hook == <$hook as $crate::Hook>::NAME {
                            return $crate::__private::handle(<$hook as $crate::Hook>::handle, occasion, &config);
                        }
                    )+
                    $crate::__private::unknown_hook(&hook)
                }
            }

            #[cfg(target_family = "wasm")]
            $crate::bindings::hook::export_hooks!(Component with_types_in $crate::bindings::hook);
            #[cfg(not(target_family = "wasm"))]
            const _: fn() -> ::std::vec::Vec<$crate::definition::ExtensionDefinition> =
                <Component as $crate::__private::Hooks>::describe;
        };
    };
    ($($kind:ident: [$($item:path),+ $(,)?]),+ $(,)?) => {
        $($crate::component! { @$kind [$($item),+] })+
    };
}
