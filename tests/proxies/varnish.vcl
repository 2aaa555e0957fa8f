vcl 4.1;
backend app {{
    .host = "127.0.0.1";
    .port = "{upstream}";
}}
sub vcl_recv {{
    # Event streams are neither kept nor counted as one object.
    return (pipe);
}}
