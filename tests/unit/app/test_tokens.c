/* SPDX-License-Identifier: MIT */
#include "app/tokens.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define WORKOS "https://api.workos.com"

static struct config usual(void)
{
    static char hostname[] = "api.workos.com", client_id[] = "client_1";

    return (struct config){
        .api_hostname = hostname,
        .api_port = 443,
        .api_https = 1,
        .client_id = client_id,
    };
}

static void expect(const struct config *config, const char *jwks_url, const char *issuers)
{
    struct tokens tokens;
    struct err err = {0};

    assert_true(tokens_are_on(config));
    if (tokens_fill(&tokens, config, &err) < 0)
        fail_msg("%s", err.text);
    assert_string_equal(tokens.opts.jwks_url, jwks_url);
    assert_string_equal(tokens.opts.issuers, issuers);
    assert_ptr_equal(tokens.opts.client_id, config->client_id);
    assert_ptr_equal(tokens.opts.audiences, config->audiences);
    assert_int_equal(strncmp(tokens.opts.user_agent, "authkitd/", 9), 0);
    tokens_release(&tokens);
}

static void tokens__of_the_client_id(void **state)
{
    struct config config = usual();

    (void)state;
    expect(&config, WORKOS "/sso/jwks/client_1",
           WORKOS "," WORKOS "/," WORKOS "/user_management/client_1");
}

static void tokens__of_a_custom_domain(void **state)
{
    static char hostname[] = "auth.example.com";
    struct config config = usual();

    (void)state;
    config.api_hostname = hostname;
    expect(&config, "https://auth.example.com/sso/jwks/client_1",
           "https://auth.example.com,https://auth.example.com/,"
           "https://auth.example.com/user_management/client_1," WORKOS "," WORKOS "/," WORKOS
           "/user_management/client_1");
}

static void tokens__of_the_emulator(void **state)
{
    static char hostname[] = "localhost";
    struct config config = usual();

    (void)state;
    config.api_hostname = hostname;
    config.api_https = 0;
    config.api_port = 4100;
    expect(&config, "http://localhost:4100/sso/jwks/client_1",
           "http://localhost:4100,http://localhost:4100/,"
           "http://localhost:4100/user_management/client_1," WORKOS "," WORKOS "/," WORKOS
           "/user_management/client_1");
    config.api_port = 80;
    config.client_id = NULL;
    config.jwks_url = hostname;
    expect(&config, "localhost", "http://localhost,http://localhost/," WORKOS "," WORKOS "/");
}

static void tokens__what_is_given_is_taken(void **state)
{
    static char url[] = "file:///keys.json", issuers[] = "https://a,https://b", audiences[] = "x";
    struct config config = usual();

    (void)state;
    config.jwks_url = url;
    config.issuers = issuers;
    config.audiences = audiences;
    expect(&config, url, issuers);
}

static void tokens__odd_client_ids_stay_in_their_place(void **state)
{
    static char client_id[] = "a;b&c";
    struct config config = usual();

    (void)state;
    config.client_id = client_id;
    expect(&config, WORKOS "/sso/jwks/a%3Bb%26c",
           WORKOS "," WORKOS "/," WORKOS "/user_management/a;b&c");
}

static void tokens__off(void **state)
{
    struct config config = usual();
    struct tokens none = {0};

    (void)state;
    config.client_id = NULL;
    assert_false(tokens_are_on(&config));
    tokens_release(&none);
}

static void tokens__far_too_long(void **state)
{
    static char hostname[8192];
    struct config config = usual();
    struct tokens tokens;
    struct err err;

    (void)state;
    memset(hostname, 'x', sizeof(hostname) - 1);
    config.api_hostname = hostname;
    assert_int_equal(tokens_fill(&tokens, &config, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens__of_the_client_id),
        cmocka_unit_test(tokens__of_a_custom_domain),
        cmocka_unit_test(tokens__of_the_emulator),
        cmocka_unit_test(tokens__what_is_given_is_taken),
        cmocka_unit_test(tokens__odd_client_ids_stay_in_their_place),
        cmocka_unit_test(tokens__off),
        cmocka_unit_test(tokens__far_too_long),
    };

    return cmocka_run_group_tests_name("tokens", tests, NULL, NULL);
}
