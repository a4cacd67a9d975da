/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/tls.h"
#include "unit/crypto/cert.h"

#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[] = "/tmp/test_tls.XXXXXX";
static char cert_path[64];
static char key_path[64];

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(cert_path, sizeof(cert_path), "%s/cert.pem", dir);
    snprintf(key_path, sizeof(key_path), "%s/key.pem", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(cert_path);
    unlink(key_path);
    return rmdir(dir);
}

static void put_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");

    fputs(text, file);
    fclose(file);
}

/* A server of "one.example" on files. */
static struct tls_server *new_server(void)
{
    struct cert one = cert_new("one.example");
    struct tls_server *tls = NULL;
    struct err err;

    cert_write(&one, cert_path, key_path);
    cert_free(&one);
    assert_int_equal(tls_server_new(&tls, cert_path, key_path, &err), 0);
    return tls;
}

/*
 * Shake hands in memory. Returns the name in the server's certificate (and in out_protocol what was
 * agreed on by ALPN), or "" when there was no agreement.
 */
static void shake_hands(struct tls_server *tls, int version, const char *alpn, char name[64],
                        char protocol[16])
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *client;
    SSL *server = SSL_new(tls_server_ctx(tls));
    BIO *client_end;
    BIO *server_end;
    const unsigned char *chosen;
    unsigned int chosen_len;

    name[0] = protocol[0] = '\0';
    SSL_CTX_set_min_proto_version(ctx, 0);
    SSL_CTX_set_max_proto_version(ctx, version);
    SSL_CTX_set_security_level(ctx, 0);
    client = SSL_new(ctx);
    if (alpn)
        SSL_set_alpn_protos(client, (const unsigned char *)alpn, (unsigned)strlen(alpn));
    BIO_new_bio_pair(&client_end, 0, &server_end, 0);
    SSL_set_bio(client, client_end, client_end);
    SSL_set_bio(server, server_end, server_end);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    for (int i = 0; i < 10; i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(server);
    }
    if (SSL_is_init_finished(client) && SSL_is_init_finished(server)) {
        X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(client)),
                                  NID_commonName, name, 64);
        SSL_get0_alpn_selected(client, &chosen, &chosen_len);
        snprintf(protocol, 16, "%.*s", (int)chosen_len, chosen_len ? (const char *)chosen : "");
    }
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(ctx);
}

static void tls__handshakes_get_the_certificate(void **state)
{
    struct tls_server *tls = new_server();
    char name[64];
    char protocol[16];

    (void)state;
    shake_hands(tls, TLS1_3_VERSION, NULL, name, protocol);
    assert_string_equal(name, "one.example");
    assert_string_equal(protocol, "");
    shake_hands(tls, TLS1_2_VERSION, NULL, name, protocol);
    assert_string_equal(name, "one.example");
    tls_server_free(tls);
}

static void tls__old_versions_are_refused(void **state)
{
    struct tls_server *tls = new_server();
    char name[64];
    char protocol[16];

    (void)state;
    shake_hands(tls, TLS1_1_VERSION, NULL, name, protocol);
    assert_string_equal(name, "");
    tls_server_free(tls);
}

static void tls__only_http_1_1_is_agreed_on(void **state)
{
    struct tls_server *tls = new_server();
    char name[64];
    char protocol[16];

    (void)state;
    shake_hands(tls, TLS1_3_VERSION, "\x02h2\x08http/1.1", name, protocol);
    assert_string_equal(protocol, "http/1.1");
    shake_hands(tls, TLS1_3_VERSION, "\x02h2", name, protocol);
    assert_string_equal(name, "");
    tls_server_free(tls);
}

static void tls__reload_takes_the_new_certificate(void **state)
{
    struct tls_server *tls = new_server();
    struct cert two = cert_new("two.example");
    struct err err;
    char name[64];
    char protocol[16];

    (void)state;
    cert_write(&two, cert_path, key_path);
    shake_hands(tls, TLS1_3_VERSION, NULL, name, protocol);
    assert_string_equal(name, "one.example");
    assert_int_equal(tls_server_reload(tls, &err), 0);
    shake_hands(tls, TLS1_3_VERSION, NULL, name, protocol);
    assert_string_equal(name, "two.example");
    cert_free(&two);
    tls_server_free(tls);
}

static void expect_reload_error(struct tls_server *tls, const char *path, const char *text)
{
    struct err err = {0};
    char name[64];
    char protocol[16];

    assert_int_equal(tls_server_reload(tls, &err), ERR_INVALID);
    assert_non_null(strstr(err.text, path));
    if (!strstr(err.text, text))
        fail_msg("'%s' is not in '%s'", text, err.text);
    shake_hands(tls, TLS1_3_VERSION, NULL, name, protocol);
    assert_string_equal(name, "one.example");
}

static void tls__failed_reload_keeps_the_old_certificate(void **state)
{
    struct tls_server *tls = new_server();
    struct cert two = cert_new("two.example");
    FILE *file;

    (void)state;
    put_file(cert_path, "nothing");
    expect_reload_error(tls, cert_path, "there is no certificate");
    cert_write(&two, cert_path, "/dev/null");
    expect_reload_error(tls, key_path, "doesn't fit");
    put_file(key_path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    expect_reload_error(tls, key_path, "there is no private key");
    file = fopen(key_path, "w");
    PEM_write_PrivateKey(file, two.key, EVP_aes_128_cbc(), (const unsigned char *)"pass", 4, NULL,
                         NULL);
    fclose(file);
    expect_reload_error(tls, key_path, "without a passphrase");
    cert_write(&two, cert_path, key_path);
    file = fopen(cert_path, "a");
    fputs("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", file);
    fclose(file);
    expect_reload_error(tls, cert_path, "damaged");
    unlink(cert_path);
    expect_reload_error(tls, cert_path, "No such file");
    cert_free(&two);
    tls_server_free(tls);
}

/* Symptom: such a certificate took a good one's place, and then no client could connect; nothing was logged. */
static void tls__certificate_that_no_handshake_gets_is_refused(void **state)
{
    struct tls_server *tls = new_server();
    struct cert weak = cert_with_key("weak.example", EVP_RSA_gen(1024));
    struct cert leaf = cert_new("leaf.example");
    struct cert issuer = cert_new("issuer.example");

    (void)state;
    cert_write(&weak, cert_path, key_path);
    expect_reload_error(tls, cert_path, "ee key too small");
    cert_sign(&leaf, &weak, EVP_sha256());
    cert_write(&leaf, cert_path, key_path);
    cert_append(&weak, cert_path);
    expect_reload_error(tls, cert_path, "ca key too small");
    cert_sign(&leaf, &issuer, EVP_sha1());
    cert_write(&leaf, cert_path, key_path);
    expect_reload_error(tls, cert_path, "ca md too weak");
    expect_reload_error(tls, cert_path, "2048 bits");
    cert_free(&weak);
    cert_free(&leaf);
    cert_free(&issuer);
    tls_server_free(tls);
}

/* Symptom: "the key doesn't fit the certificate", though both were right. */
static void tls__issuer_in_front_of_the_certificate_is_told(void **state)
{
    struct tls_server *tls = new_server();
    struct cert issuer = cert_new("issuer.example");
    struct cert leaf = cert_new("leaf.example");

    (void)state;
    cert_sign(&leaf, &issuer, EVP_sha256());
    cert_write(&issuer, cert_path, "/dev/null");
    cert_append(&leaf, cert_path);
    cert_write(&leaf, "/dev/null", key_path);
    expect_reload_error(tls, cert_path, "belongs to certificate 2 in it");
    cert_free(&issuer);
    cert_free(&leaf);
    tls_server_free(tls);
}

static void tls__missing_files_are_named(void **state)
{
    struct tls_server *tls = NULL;
    struct err err = {0};

    (void)state;
    assert_int_equal(tls_server_new(&tls, "/nonexistent/c.pem", key_path, &err), ERR_INVALID);
    assert_string_equal(err.text, "cannot read '/nonexistent/c.pem': No such file or directory");
    assert_null(tls);
    tls_server_free(NULL);
}

/* Of a certificate that is valid from and to so many seconds from now. */
static const char *said_of_dates(long from_s, long to_s)
{
    static struct err err;
    struct cert cert = cert_new("dated.example");
    struct tls_server *tls = NULL;
    int rc;

    err = (struct err){0};
    X509_gmtime_adj(X509_getm_notBefore(cert.x509), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert.x509), to_s);
    X509_sign(cert.x509, cert.key, EVP_sha256());
    cert_write(&cert, cert_path, key_path);
    cert_free(&cert);
    assert_int_equal(tls_server_new(&tls, cert_path, key_path, NULL), 0);
    rc = tls_server_check_dates(tls, &err);
    assert_int_equal(rc, err.text[0] ? ERR_INVALID : 0);
    tls_server_free(tls);
    return err.text;
}

static void assert_names(const char *text, const char *what, long date_s)
{
    char day[32];
    time_t then = time(NULL) + date_s;

    strftime(day, sizeof(day), "%Y-%m-%d at ", gmtime(&then));
    assert_non_null(strstr(text, cert_path));
    assert_non_null(strstr(text, what));
    assert_non_null(strstr(text, day));
}

static void tls__certificate_out_of_date_is_told(void **state)
{
    enum { DAY_S = 86400 };

    (void)state;
    assert_string_equal(said_of_dates(-DAY_S, DAY_S), "");
    assert_names(said_of_dates(-2 * DAY_S, -DAY_S), "expired on", -DAY_S);
    assert_names(said_of_dates(DAY_S, 2 * DAY_S), "isn't valid before", DAY_S);
}

/* Symptom: the opening of a FIFO waited for somebody to write to it, and a reload with it. */
static void tls__what_is_no_file_is_refused(void **state)
{
    struct tls_server *tls = new_server();

    (void)state;
    unlink(key_path);
    assert_int_equal(mkfifo(key_path, 0600), 0);
    expect_reload_error(tls, key_path, "': it isn't a file");
    unlink(cert_path);
    assert_int_equal(mkdir(cert_path, 0700), 0);
    expect_reload_error(tls, cert_path, "': it isn't a file");
    rmdir(cert_path);
    tls_server_free(tls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tls__handshakes_get_the_certificate),
        cmocka_unit_test(tls__old_versions_are_refused),
        cmocka_unit_test(tls__only_http_1_1_is_agreed_on),
        cmocka_unit_test(tls__reload_takes_the_new_certificate),
        cmocka_unit_test(tls__failed_reload_keeps_the_old_certificate),
        cmocka_unit_test(tls__certificate_that_no_handshake_gets_is_refused),
        cmocka_unit_test(tls__issuer_in_front_of_the_certificate_is_told),
        cmocka_unit_test(tls__missing_files_are_named),
        cmocka_unit_test(tls__certificate_out_of_date_is_told),
        cmocka_unit_test(tls__what_is_no_file_is_refused),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
