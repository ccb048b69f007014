//! `#[op]`.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Error, FnArg, Ident, ItemFn, Pat, ReturnType, Type};

use crate::attribute::{self, OpAttribute, Place, PortAttribute};

/// One parameter of the function.
struct Parameter {
    /// The variable that holds its value.
    variable: Ident,
    ty: Type,
    kind: Kind,
}

enum Kind {
    Config,
    Port { name: String, port: TokenStream },
}

/// The function, and the op beside it, or what is wrong with it.
pub(crate) fn expand(said: &OpAttribute, mut function: ItemFn) -> TokenStream {
    let op = check_signature(&function, "an op")
        .and_then(|()| parameters(&mut function))
        .and_then(|parameters| op(said, &function, &parameters))
        .unwrap_or_else(Error::into_compile_error);
    // The function stays even when it is no op, without what the compiler does not know: one mistake, one message.
    for argument in &mut function.sig.inputs {
        if let FnArg::Typed(argument) = argument {
            argument
                .attrs
                .retain(|attribute| !["config", "doc", "port"].iter().any(|ours| attribute.path().is_ident(ours)));
        }
    }
    quote!(#function #op)
}

fn op(said: &OpAttribute, function: &ItemFn, parameters: &[Parameter]) -> syn::Result<TokenStream> {
    let ident = &function.sig.ident;
    let visibility = &function.vis;
    let name = match &said.name {
        Some(name) => name.value(),
        None => {
            let name = ident.to_string();
            let name = name.strip_prefix("r#").unwrap_or(&name).to_owned();
            attribute::check_name(&name, ident.span(), "an op")?;
            name
        }
    };
    let description = attribute::doc(&function.attrs);

    let declared = parameters.iter().map(|Parameter { ty, kind, .. }| match kind {
        Kind::Config => {
            let declare = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::declare);
            quote!(#declare(&mut op);)
        }
        Kind::Port { port, .. } => {
            let declare = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>::declare);
            quote!(#declare(&#port, &mut op);)
        }
    });
    let acquired = parameters.iter().map(|Parameter { variable, ty, kind }| match kind {
        Kind::Config => {
            let acquire = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Config>::acquire);
            quote!(let #variable = #acquire()?;)
        }
        Kind::Port { port, .. } => {
            let acquire = quote_spanned!(ty.span()=> <#ty as ::opyard_guest::__private::Argument>::acquire);
            quote!(let #variable = #acquire(&#port)?;)
        }
    });
    let variables = parameters.iter().map(|parameter| &parameter.variable);

    let unit: Type = syn::parse_quote!(());
    let (returned, returned_span) = match &function.sig.output {
        ReturnType::Type(_, ty) => (&**ty, ty.span()),
        ReturnType::Default => (&unit, ident.span()),
    };
    let nothing_said = PortAttribute::default();
    let result = said.result.as_ref().unwrap_or(&nothing_said);
    let result_name = result.result_name();
    let result_port = result.to_port(&result_name);
    let declare_result = quote_spanned!(returned_span=> <#returned as ::opyard_guest::__private::Outcome>::declare);
    let finish = quote_spanned!(returned_span=> <#returned as ::opyard_guest::__private::Outcome>::finish);
    let outcome = quote_spanned!(returned_span=> <#returned as ::opyard_guest::__private::Outcome>);
    let single = result.name_span().map(|span| {
        let text = "`result(…)` is for an op with a single output: say it on the fields of the struct";
        quote_spanned!(span=> const _: () = ::core::assert!(#outcome::SINGLE, #text);)
    });
    let roles = parameters.iter().filter_map(|Parameter { ty, kind, .. }| match kind {
        Kind::Config => None,
        Kind::Port { name, .. } => {
            Some(quote_spanned!(ty.span()=> (#name, <#ty as ::opyard_guest::__private::Argument>::ROLE)))
        }
    });

    let tags = said.tags.iter().map(|(key, value)| quote!((#key.to_owned(), #value.to_owned())));
    let retry = said.retry.as_ref().map(|retry| {
        let attribute::Retry { max, delay_ms, backoff, jitter } = retry;
        quote! {
            op.retry_policy = ::core::option::Option::Some(::opyard_guest::__private::RetryPolicy {
                max_retries: #max,
                delay_ms: #delay_ms,
                backoff: ::opyard_guest::__private::Backoff::#backoff,
                jitter: ::opyard_guest::__private::Jitter::#jitter,
            });
        }
    });
    let deterministic = said.deterministic.as_ref().map(|value| quote!(op.deterministic = #value;));
    let distinct = quote_spanned! {ident.span()=>
        const _: () = ::opyard_guest::__private::assert_outputs_distinct(
            &[#(#roles),*],
            #outcome::SINGLE,
            #result_name,
            #outcome::NAMES,
        );
    };

    Ok(quote! {
        #[doc(hidden)]
        #[allow(non_camel_case_types, reason = "stands beside the function of the same name")]
        #visibility enum #ident {}

        const _: () = {
            #single
            #distinct

            impl ::opyard_guest::Op for #ident {
                const NAME: &'static str = #name;

                fn definition() -> ::opyard_guest::__private::OpDefinition {
                    let mut op = ::opyard_guest::__private::definition(#name, #description);
                    #(#declared)*
                    #declare_result(&#result_port, &mut op);
                    op.tags = ::std::vec![#(#tags),*];
                    #retry
                    #deterministic
                    op
                }

                fn execute() -> ::core::result::Result<(), ::opyard_guest::Failure> {
                    #(#acquired)*
                    #finish(#ident(#(#variables),*), &#result_port)
                }
            }
        };
    })
}

/// Refuses what no host could call. `what` the function is to be, with its article.
pub(crate) fn check_signature(function: &ItemFn, what: &str) -> syn::Result<()> {
    let signature = &function.sig;
    let wrong = if let Some(token) = &signature.asyncness {
        Some((token.span(), "is not async: the host runs many at once, each waits by itself"))
    } else if let Some(token) = &signature.unsafety {
        Some((token.span(), "is not unsafe: the host calls it"))
    } else if let Some(abi) = &signature.abi {
        Some((abi.span(), "is an ordinary Rust function"))
    } else if let Some(token) = &signature.variadic {
        Some((token.span(), "has a fixed number of parameters"))
    } else if !signature.generics.params.is_empty() {
        Some((signature.generics.span(), "is not generic: the host needs to know its types"))
    } else {
        None
    };
    wrong.map_or(Ok(()), |(span, text)| Err(Error::new(span, format!("{what} {text}"))))
}

fn parameters(function: &mut ItemFn) -> syn::Result<Vec<Parameter>> {
    let mut seen: Vec<(String, Span)> = Vec::new();
    let mut config_seen = false;
    let mut parameters = Vec::new();
    for (index, argument) in function.sig.inputs.iter_mut().enumerate() {
        let argument = match argument {
            FnArg::Receiver(receiver) => return Err(Error::new(receiver.span(), "an op is a function, not a method")),
            FnArg::Typed(argument) => argument,
        };
        if let Type::Reference(reference) = &*argument.ty {
            return Err(Error::new(reference.span(), "an op takes its parameters by value"));
        }
        if let Type::ImplTrait(ty) = &*argument.ty {
            return Err(Error::new(ty.span(), "an op names its types: the host needs to know them"));
        }
        let marked = argument.attrs.iter().any(|attribute| attribute.path().is_ident("config"));
        argument.attrs.retain(|attribute| !attribute.path().is_ident("config"));
        let port = PortAttribute::take_from(&mut argument.attrs, Place::Parameter)?;
        let ty = (*argument.ty).clone();
        let variable = format_ident!("parameter_{index}");
        let named = match &*argument.pat {
            Pat::Ident(pattern) => Some(&pattern.ident),
            _ => None,
        };
        if marked || named.is_some_and(|ident| ident == "config") {
            if config_seen {
                return Err(Error::new(argument.pat.span(), "an op has one config"));
            }
            config_seen = true;
            parameters.push(Parameter { variable, ty, kind: Kind::Config });
            continue;
        }
        let Some(ident) = named else {
            return Err(Error::new(argument.pat.span(), "a parameter of an op needs a name: it is the port's"));
        };
        let (name, span) = port.name(ident)?;
        if let Some((_, first)) = seen.iter().find(|(other, _)| *other == name) {
            let mut error = Error::new(span, format!("this op has two ports or resources named `{name}`"));
            error.combine(Error::new(*first, "the first is here"));
            return Err(error);
        }
        let port = port.to_port(&name);
        seen.push((name.clone(), span));
        parameters.push(Parameter { variable, ty, kind: Kind::Port { name, port } });
    }
    Ok(parameters)
}
