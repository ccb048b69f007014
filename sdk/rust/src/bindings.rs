//! The contract as `wit-bindgen` sees it: the widest world, bound once.
//!
//! A component still asks for nothing it does not use: a function that no op calls is no import of the core module, and
//! an interface without a used function is no import of the component. So the author's own world is what the ops use.
wit_bindgen::generate!({
    path: "../../wit",
    inline: "
        package opyard:guest;

        world guest {
            include opyard:op/op@0.1.0;
            import opyard:op/execution@0.1.0;
            import opyard:resources/object-store@0.1.0;
            import opyard:resources/http-client@0.1.0;
            import opyard:resources/secrets@0.1.0;
        }
    ",
    world: "opyard:guest/guest",
    generate_all,
    pub_export_macro: true,
});
