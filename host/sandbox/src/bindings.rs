//! What `wit/` becomes on this side: traits that [`crate::host`] implements, and the calls into a guest: one world for each
//! kind of thing that a component ships, all over the same imports.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package opyard:host;
        world step {
            import opyard:op/context@0.1.0;
            import opyard:op/execution@0.1.0;
            import opyard:op/values@0.1.0;
            import opyard:op/io@0.1.0;
            import opyard:op/events@0.1.0;
            import opyard:resources/blobs@0.1.0;
            import opyard:resources/object-store@0.1.0;
            import opyard:resources/key-value@0.1.0;
            import opyard:resources/model-registry@0.1.0;
            import opyard:resources/http-client@0.1.0;
            import opyard:resources/secrets@0.1.0;
            export opyard:op/ops@0.1.0;
        }
    ",
    world: "opyard:host/step",
    imports: { default: async | trappable },
    exports: { default: async },
    with: {
        "opyard:op/values.reader": crate::host::values::Reader,
        "opyard:op/values.writer": crate::host::values::Writer,
        "opyard:resources/blobs.blob-reader": crate::host::blobs::Reading,
        "opyard:resources/blobs.blob-writer": crate::host::blobs::Writing,
        "opyard:resources/object-store.store": crate::host::object_store::Store,
        "opyard:resources/key-value.bucket": crate::host::key_value::Bucket,
        "opyard:resources/model-registry.registry": crate::host::model_registry::Registry,
        "opyard:resources/model-registry.model-writer": crate::host::model_registry::Making,
        "opyard:resources/http-client.client": crate::host::http_client::Client,
        "opyard:resources/http-client.response": crate::host::http_client::Response,
    },
});

/// Components that ship type checkers.
pub(crate) mod checking {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package opyard:host;
            world checking {
                import opyard:op/values@0.1.0;
                import opyard:op/events@0.1.0;
                export opyard:op/type-checks@0.1.0;
            }
        ",
        world: "opyard:host/checking",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "opyard:op/types@0.1.0": super::opyard::op::types,
            "opyard:op/definitions@0.1.0": super::opyard::op::definitions,
            "opyard:op/values@0.1.0": super::opyard::op::values,
            "opyard:op/events@0.1.0": super::opyard::op::events,
        },
    });
}

/// Components that ship hooks.
pub(crate) mod hooking {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package opyard:host;
            world hooking {
                import opyard:op/events@0.1.0;
                export opyard:op/hooks@0.1.0;
            }
        ",
        world: "opyard:host/hooking",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "opyard:op/types@0.1.0": super::opyard::op::types,
            "opyard:op/definitions@0.1.0": super::opyard::op::definitions,
            "opyard:op/events@0.1.0": super::opyard::op::events,
        },
    });
}
