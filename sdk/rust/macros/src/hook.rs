//! `#[hook]`.

use proc_macro2::{Ident, TokenStream};
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, LitStr, Pat, ReturnType, Type};

use crate::attribute;
use crate::op::check_signature;

const WHAT: &str = "a hook";

/// What `#[hook(…)]` says.
pub(crate) struct HookAttribute {
    name: Option<LitStr>,
}

impl Parse for HookAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self { name: attribute::only_name(input, WHAT)? })
    }
}

/// The function, and the hook beside it, or what is wrong with it.
pub(crate) fn expand(said: &HookAttribute, function: &ItemFn) -> TokenStream {
    let hook =
        check_signature(function, WHAT).and_then(|()| hook(said, function)).unwrap_or_else(Error::into_compile_error);
    quote!(#function #hook)
}

/// One parameter after the occasion.
struct Parameter<'a> {
    name: String,
    variable: &'a Ident,
    ty: &'a Type,
}

fn hook(said: &HookAttribute, function: &ItemFn) -> syn::Result<TokenStream> {
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let name = attribute::word_of(said.name.as_ref(), ident, WHAT)?;
    let description = attribute::doc(&function.attrs);
    let (occasion, parameters) = parameters(function)?;

    let heard = quote_spanned!(occasion.span()=> <#occasion as ::opyard_guest::__private::Heard>::heard);
    let declared = parameters.iter().map(|Parameter { name, ty, .. }| {
        if name == "config" {
            let schema = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::schema);
            return quote!(hook.config_schema = ::core::option::Option::Some(#schema()););
        }
        let argument = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>);
        quote_spanned! {ty.span()=>
            const _: () = ::core::assert!(
                ::core::matches!(#argument::ROLE, ::opyard_guest::__private::Role::Resource),
                "a hook takes its occasion, resources and `config`, nothing else"
            );
            #argument::declare(&::opyard_guest::__private::Port::named(#name), &mut needs);
        }
    });
    let acquired = parameters.iter().map(|Parameter { name, variable, ty }| {
        if name == "config" {
            let parse = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::parse);
            return quote!(let #variable = #parse("config", config)?;);
        }
        let argument = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>);
        quote!(let #variable = #argument::acquire(&::opyard_guest::__private::Port::named(#name))?;)
    });
    let variables = parameters.iter().map(|parameter| parameter.variable);
    let unit: Type = syn::parse_quote!(());
    let (returned, span) = match &function.sig.output {
        ReturnType::Type(_, ty) => (&**ty, ty.span()),
        ReturnType::Default => (&unit, ident.span()),
    };
    let handled = quote_spanned!(span=> <#returned as ::opyard_guest::__private::Handled>::handled);

    Ok(quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "stands beside the function of the same name")]
        #visibility enum #ident {}

        const _: () = {
            impl ::opyard_guest::Hook for #ident {
                const NAME: &'static str = #name;

                fn definition() -> ::opyard_guest::__private::ExtensionDefinition {
                    let mut hook = ::opyard_guest::__private::extension(#name, #description);
                    #[allow(unused_mut, reason = "without resources nothing is added")]
                    let mut needs = ::opyard_guest::__private::definition(#name, "");
                    #(#declared)*
                    hook.resources = needs.resources;
                    hook
                }

                #[allow(unused_variables, reason = "not every hook takes a config")]
                fn handle(
                    occasion: ::opyard_guest::Occasion,
                    config: &str,
                ) -> ::core::result::Result<(), ::opyard_guest::Failure> {
                    #(#acquired)*
                    #handled(#ident(#heard(occasion) #(, #variables)*))
                }
            }
        };
    })
}

/// The type of the occasion, and what else the hook takes.
fn parameters(function: &ItemFn) -> syn::Result<(&Type, Vec<Parameter<'_>>)> {
    let mut occasion = None;
    let mut parameters = Vec::new();
    for argument in &function.sig.inputs {
        let argument = match argument {
            FnArg::Receiver(receiver) => return Err(Error::new(receiver.span(), "a hook is a function, not a method")),
            FnArg::Typed(argument) => argument,
        };
        let ty = match &*argument.ty {
            Type::Reference(reference) => {
                return Err(Error::new(reference.span(), "a hook takes its parameters by value"));
            }
            Type::ImplTrait(ty) => {
                return Err(Error::new(ty.span(), "a hook names its types: the host needs to know them"));
            }
            ty => ty,
        };
        if occasion.is_none() {
            occasion = Some(ty);
            continue;
        }
        let Pat::Ident(pattern) = &*argument.pat else {
            return Err(Error::new(
                argument.pat.span(),
                "a parameter of a hook is a name: it is the key of a resource",
            ));
        };
        let name = pattern.ident.to_string();
        attribute::check_word(&name, pattern.ident.span(), "a resource")?;
        parameters.push(Parameter { name, variable: &pattern.ident, ty });
    }
    match occasion {
        Some(occasion) => Ok((occasion, parameters)),
        None => Err(Error::new(function.sig.ident.span(), "a hook takes what it is told: `occasion: Occasion`")),
    }
}
