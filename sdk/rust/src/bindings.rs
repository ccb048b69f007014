//! The contract as `wit-bindgen` sees it: the widest worlds, each bound once.
//!
//! A component still asks for nothing it does not use: a function that no op calls is no import of the core module, and
//! an interface without a used function is no import of the component. So the author's own world is what the ops use.
//! What is exported is asked for by `component!` alone, world by world, so a component of type checkers has no ops.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package opyard:guest;

        world guest {
            include opyard:op/op@0.1.0;
            import opyard:op/execution@0.1.0;
            import opyard:resources/object-store@0.1.0;
            import opyard:resources/key-value@0.1.0;
            import opyard:resources/model-registry@0.1.0;
            import opyard:resources/http-client@0.1.0;
            import opyard:resources/secrets@0.1.0;
        }
    ",
    world: "opyard:guest/guest",
    generate_all,
    // What extensions say of themselves is used by the world below only.
    generate_unused_types: true,
    pub_export_macro: true,
});

/// The world of type checkers. Its imports are those above: one `Reader` for both.
pub mod type_checker {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package opyard:guest;

            world checker {
                include opyard:op/type-checker@0.1.0;
            }
        ",
        world: "opyard:guest/checker",
        with: {
            "opyard:op/types@0.1.0": crate::bindings::opyard::op::types,
            "opyard:op/definitions@0.1.0": crate::bindings::opyard::op::definitions,
            "opyard:op/values@0.1.0": crate::bindings::opyard::op::values,
            "opyard:op/events@0.1.0": crate::bindings::opyard::op::events,
        },
        export_macro_name: "export_type_checkers",
        pub_export_macro: true,
    });
}

/// The world of hooks. Its imports are those above.
pub mod hook {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package opyard:guest;

            world hooking {
                include opyard:op/hook@0.1.0;
            }
        ",
        world: "opyard:guest/hooking",
        with: {
            "opyard:op/types@0.1.0": crate::bindings::opyard::op::types,
            "opyard:op/definitions@0.1.0": crate::bindings::opyard::op::definitions,
            "opyard:op/events@0.1.0": crate::bindings::opyard::op::events,
        },
        export_macro_name: "export_hooks",
        pub_export_macro: true,
    });
}
