vcl 4.1;
# As Varnish is, but for where it is: it keeps for two minutes whatever does not say otherwise.
backend app {{
    .host = "127.0.0.1";
    .port = "{upstream}";
}}
sub vcl_deliver {{
    set resp.http.X-Cache = obj.hits;
}}
