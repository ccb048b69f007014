//! `#[type_checker]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::parse::{Parse, ParseStream};
use syn::spanned::Spanned;
use syn::{Error, FnArg, ItemFn, LitStr, ReturnType, Type};

use crate::attribute;
use crate::op::check_signature;

const WHAT: &str = "a type checker";

/// What `#[type_checker(…)]` says.
pub(crate) struct CheckerAttribute {
    name: Option<LitStr>,
}

impl Parse for CheckerAttribute {
    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        Ok(Self { name: attribute::only_name(input, WHAT)? })
    }
}

/// The function, and the type checker beside it, or what is wrong with it.
pub(crate) fn expand(said: &CheckerAttribute, function: &ItemFn) -> TokenStream {
    let checker = check_signature(function, WHAT)
        .and_then(|()| type_checker(said, function))
        .unwrap_or_else(Error::into_compile_error);
    quote!(#function #checker)
}

fn type_checker(said: &CheckerAttribute, function: &ItemFn) -> syn::Result<TokenStream> {
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let name = attribute::word_of(said.name.as_ref(), ident, WHAT)?;
    let description = attribute::doc(&function.attrs);
    let (value, params) = parameters(function)?;

    let checked = quote_spanned!(value.span()=> <#value as ::opyard_guest::__private::Checked>::checked);
    let declare = params.map(|ty| {
        let schema = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::schema);
        quote!(checker.config_schema = ::core::option::Option::Some(#schema());)
    });
    let parsed = params.map(|ty| {
        let parse = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::parse);
        quote!(, #parse("params", params)?)
    });
    let unit: Type = syn::parse_quote!(());
    let (returned, span) = match &function.sig.output {
        ReturnType::Type(_, ty) => (&**ty, ty.span()),
        ReturnType::Default => (&unit, ident.span()),
    };
    let verdict = quote_spanned!(span=> <#returned as ::opyard_guest::__private::Judgement>::verdict);

    Ok(quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "stands beside the function of the same name")]
        #visibility enum #ident {}

        const _: () = {
            impl ::opyard_guest::TypeChecker for #ident {
                const NAME: &'static str = #name;

                fn definition() -> ::opyard_guest::__private::ExtensionDefinition {
                    #[allow(unused_mut, reason = "without params nothing is added")]
                    let mut checker = ::opyard_guest::__private::extension(#name, #description);
                    #declare
                    checker
                }

                #[allow(unused_variables, reason = "not every type checker takes params")]
                fn check(
                    value: ::opyard_guest::Reader,
                    params: &str,
                ) -> ::core::result::Result<::opyard_guest::Verdict, ::opyard_guest::Failure> {
                    #verdict(#ident(#checked(value) #parsed))
                }
            }
        };
    })
}

/// The types of the value and, where the checker takes them, of the params.
fn parameters(function: &ItemFn) -> syn::Result<(&Type, Option<&Type>)> {
    let mut types = Vec::new();
    for argument in &function.sig.inputs {
        let argument = match argument {
            FnArg::Receiver(receiver) => {
                return Err(Error::new(receiver.span(), "a type checker is a function, not a method"));
            }
            FnArg::Typed(argument) => argument,
        };
        match &*argument.ty {
            Type::Reference(reference) => {
                return Err(Error::new(reference.span(), "a type checker takes its parameters by value"));
            }
            Type::ImplTrait(ty) => {
                return Err(Error::new(ty.span(), "a type checker names its types: the host needs to know them"));
            }
            ty => types.push(ty),
        }
    }
    match types[..] {
        [value] => Ok((value, None)),
        [value, params] => Ok((value, Some(params))),
        [_, _, third, ..] => Err(Error::new(third.span(), "a type checker takes a `Reader` and params, nothing else")),
        [] => Err(Error::new(function.sig.ident.span(), "a type checker takes the value: `value: Reader`")),
    }
}
