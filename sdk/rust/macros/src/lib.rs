//! The macros of `opyard-guest`: documented where they are used from, in that crate.

mod attribute;
mod hook;
mod op;
mod outputs;
mod type_checker;

use proc_macro::TokenStream;
use syn::{DeriveInput, ItemFn, parse_macro_input};

/// Makes an op of a function: its ports, config schema, resources and documentation follow from the signature.
///
/// - The doc comment is the op's description; a doc comment on a parameter is that port's.
/// - The parameter named `config` (or marked `#[config]`) is the config: any type with `Deserialize` and `JsonSchema`.
/// - A parameter is an input port (`Bytes`, `Text`, `Json<T>`, `JsonLines<T>`, `Csv<T>`, `Reader`, `Nothing`; in
///   `Option<…>` when optional, in `Vec<…>` for many), a resource (`ObjectStore`, `KeyValue`, `ModelRegistry`,
///   `HttpClient`, `Secret`; its name is the key), an output that is written piece by piece (`Writer`, `Dynamic<…>`), or
///   `Execution`.
/// - The result is one output, named `result`, or a struct with `#[derive(Outputs)]`, or `()`; each may be in a
///   `Result<…, Failure>`.
///
/// # Attributes
/// `#[op(…)]` takes
/// - `name = "…"` in place of the function's name,
/// - `tags(team = "ecology", …)`,
/// - `retry(max = 3, delay = "2s", backoff = constant | linear | exponential, jitter = none | full | plus_minus)`,
/// - `deterministic = false` for an op that may give other outputs for the same inputs,
/// - `result(name = "…", type = "…", media = "…", doc = "…")` for a single output.
///
/// `#[port(…)]` on a parameter takes `name = "…"`, `type = "…"` (a named type), `media = "…"` (several for an input, best
/// first, as `media("…", "…")`), and, on a `Json` or `Text` input, `default = …`.
#[proc_macro_attribute]
pub fn op(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let attribute = parse_macro_input!(attribute as attribute::OpAttribute);
    let function = parse_macro_input!(item as ItemFn);
    op::expand(&attribute, function).into()
}

/// Makes a type checker of a function: its params' schema and its documentation follow from the signature.
///
/// - The doc comment is the type checker's description.
/// - The first parameter is the value, a `Reader`. The second may be missing; it is what the type's `check` block says
///   beside `with`: any type with `Deserialize` and `JsonSchema`.
/// - The result is a `Verdict`, or a `Result<Verdict, Failure>`.
///
/// `#[type_checker(name = "…")]` names it otherwise than the function.
#[proc_macro_attribute]
pub fn type_checker(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let attribute = parse_macro_input!(attribute as type_checker::CheckerAttribute);
    let function = parse_macro_input!(item as ItemFn);
    type_checker::expand(&attribute, &function).into()
}

/// Makes a hook of a function: its config schema, resources and documentation follow from the signature.
///
/// - The doc comment is the hook's description.
/// - The first parameter is what it is told, an `Occasion`.
/// - The parameter named `config` is the config: any type with `Deserialize` and `JsonSchema`. Any other is a resource, as for
///   an op; its name is the key.
/// - It returns nothing, or a `Result<(), Failure>`. A failure is on record, and nothing else follows from it.
///
/// `#[hook(name = "…")]` names it otherwise than the function.
#[proc_macro_attribute]
pub fn hook(attribute: TokenStream, item: TokenStream) -> TokenStream {
    let attribute = parse_macro_input!(attribute as hook::HookAttribute);
    let function = parse_macro_input!(item as ItemFn);
    hook::expand(&attribute, &function).into()
}

/// Makes the outputs of an op of a struct: a port per field, optional where the field is an `Option`.
///
/// A doc comment on a field is that port's; `#[port(name = "…", type = "…", media = "…")]` says the rest.
#[proc_macro_derive(Outputs, attributes(port))]
pub fn outputs(item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as DeriveInput);
    outputs::expand(item).unwrap_or_else(syn::Error::into_compile_error).into()
}
