/* SPDX-License-Identifier: MIT */
#include "crypto/tls.h"

#include "base/log.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* A certificate, its key and its chain: never changed once they are shared, only replaced. */
struct identity {
    int users; /* guarded by the tls_server's lock */
    X509 *certificate;
    EVP_PKEY *key;
    STACK_OF(X509) * chain;
};

struct tls_server {
    SSL_CTX *ctx;
    char *cert_path;
    char *key_path;
    pthread_mutex_t lock;
    struct identity *identity; /* guarded by lock; one user of it is this pointer */
};

static void identity_free(struct identity *id)
{
    if (!id)
        return;
    X509_free(id->certificate);
    EVP_PKEY_free(id->key);
    sk_X509_pop_free(id->chain, X509_free);
    free(id);
}

static struct identity *identity_take(struct tls_server *tls)
{
    struct identity *id;

    pthread_mutex_lock(&tls->lock);
    id = tls->identity;
    id->users++;
    pthread_mutex_unlock(&tls->lock);
    return id;
}

static void identity_put(struct tls_server *tls, struct identity *id)
{
    int users;

    pthread_mutex_lock(&tls->lock);
    users = --id->users;
    pthread_mutex_unlock(&tls->lock);
    if (users == 0)
        identity_free(id);
}

/* --- files ------------------------------------------------------------------------------------ */

/* A key with a passphrase is refused rather than asked for: nobody sits at the terminal. */
static int no_passphrase(char *out, int size, int writing, void *arg)
{
    (void)out;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

/* O_NONBLOCK: opening a FIFO by mistake must not hang. */
static FILE *open_pem(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    FILE *file = NULL;

    if (fd < 0 || fstat(fd, &st) < 0)
        err_errno(err, ERR_INVALID, "cannot read '%s'", path);
    else if (!S_ISREG(st.st_mode))
        err_set(err, ERR_INVALID, "cannot read '%s': it isn't a file", path);
    else if (!(file = fdopen(fd, "r")))
        err_set(err, ERR_INVALID, "no memory to read '%s'", path);
    if (fd >= 0 && !file)
        close(fd);
    return file;
}

static int read_certificates(struct identity *id, const char *path, struct err *err)
{
    FILE *file = open_pem(path, err);
    X509 *issuer;
    int rc = 0;

    if (!file)
        return ERR_INVALID;
    id->chain = sk_X509_new_null();
    id->certificate = PEM_read_X509_AUX(file, NULL, no_passphrase, NULL);
    if (!id->certificate || !id->chain) {
        rc = err_set(err, ERR_INVALID, "there is no certificate in '%s' (PEM is expected)", path);
        goto out;
    }
    while ((issuer = PEM_read_X509(file, NULL, no_passphrase, NULL))) {
        if (!sk_X509_push(id->chain, issuer)) {
            X509_free(issuer);
            rc = err_set(err, ERR_NOMEM, "no memory for the certificates in '%s'", path);
            goto out;
        }
    }
    /* The end of the file is an error to OpenSSL. Any other is one to us. */
    if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
        rc = err_set(err, ERR_INVALID, "a certificate in '%s' is damaged", path);
out:
    ERR_clear_error();
    fclose(file);
    return rc;
}

static int read_key(struct identity *id, const char *path, struct err *err)
{
    FILE *file = open_pem(path, err);

    if (!file)
        return ERR_INVALID;
    id->key = PEM_read_PrivateKey(file, NULL, no_passphrase, NULL);
    ERR_clear_error();
    fclose(file);
    if (!id->key)
        return err_set(err, ERR_INVALID,
                       "there is no private key in '%s' that can be used (PEM without a "
                       "passphrase is expected)",
                       path);
    return 0;
}

/* Who puts the files together by hand may begin with the wrong one. */
static int refuse_key(const struct identity *id, const char *cert_path, const char *key_path,
                      struct err *err)
{
    for (int i = 0; i < sk_X509_num(id->chain); i++)
        if (X509_check_private_key(sk_X509_value(id->chain, i), id->key))
            return err_set(
                err, ERR_INVALID,
                "the key in '%s' doesn't fit the first certificate in '%s', but belongs to "
                "certificate %d in it: the server's own must come first, then its issuers",
                key_path, cert_path, i + 2);
    return err_set(err, ERR_INVALID, "the key in '%s' doesn't fit the certificate in '%s'",
                   key_path, cert_path);
}

/* The connection takes references of its own. On failure OpenSSL's error queue has the reason. */
static bool use_identity(SSL *ssl, const struct identity *id)
{
    return SSL_use_cert_and_key(ssl, id->certificate, id->key, id->chain, 1) == 1;
}

static const char *openssl_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    return reason ? reason : "no reason is given";
}

static bool is_too_weak(unsigned long error)
{
    int reason = ERR_GET_REASON(error);

    return ERR_GET_LIB(error) == ERR_LIB_SSL &&
           (reason == SSL_R_EE_KEY_TOO_SMALL || reason == SSL_R_CA_KEY_TOO_SMALL ||
            reason == SSL_R_CA_MD_TOO_WEAK);
}

/* OpenSSL judges keys and signatures only when a connection is given them, so one is made that goes nowhere. */
static int check_use(SSL_CTX *ctx, const struct identity *id, const char *cert_path,
                     struct err *err)
{
    SSL *ssl = SSL_new(ctx);
    int rc = 0;

    if (!ssl)
        return err_set(err, ERR_NOMEM, "no memory to try the certificate in '%s'", cert_path);
    if (!use_identity(ssl, id))
        rc = err_set(
            err, ERR_INVALID, "OpenSSL doesn't serve the certificate in '%s': %s%s", cert_path,
            openssl_reason(),
            is_too_weak(ERR_peek_last_error())
                ? "; have one issued, and its issuers', with keys of 2048 bits or more (RSA) "
                  "and SHA-256"
                : "");
    SSL_free(ssl);
    return rc;
}

static int identity_read(struct identity **out, SSL_CTX *ctx, const char *cert_path,
                         const char *key_path, struct err *err)
{
    struct identity *id = calloc(1, sizeof(*id));
    int rc;

    if (!id)
        return err_set(err, ERR_NOMEM, "no memory for a certificate");
    id->users = 1;
    ERR_clear_error();
    rc = read_certificates(id, cert_path, err);
    if (rc < 0)
        goto out;
    rc = read_key(id, key_path, err);
    if (rc < 0)
        goto out;
    if (!X509_check_private_key(id->certificate, id->key)) {
        rc = refuse_key(id, cert_path, key_path, err);
        goto out;
    }
    ERR_clear_error();
    rc = check_use(ctx, id, cert_path, err);
    if (rc < 0)
        goto out;
    *out = id;
    id = NULL;
out:
    ERR_clear_error();
    identity_free(id);
    return rc;
}

/* --- handshakes: any thread ------------------------------------------------------------------- */

static int give_certificate(SSL *ssl, void *arg)
{
    struct tls_server *tls = arg;
    static struct log_limit limit;
    struct identity *id = identity_take(tls);
    bool ok = use_identity(ssl, id);

    identity_put(tls, id);
    if (!ok && log_may(&limit))
        log_error("a client can't be given the certificate", log_str("file", tls->cert_path),
                  log_str("error", openssl_reason()));
    return ok;
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *offered, unsigned int offered_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto((unsigned char **)out, out_len, ours, sizeof(ours) - 1, offered,
                              offered_len) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    return SSL_TLSEXT_ERR_OK;
}

/* --- main ------------------------------------------------------------------------------------- */

static SSL_CTX *new_ctx(struct tls_server *tls)
{
    static const unsigned char session_scope[] = "authkitd";
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

    if (!ctx)
        return NULL;
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_cert_cb(ctx, give_certificate, tls);
    SSL_CTX_set_alpn_select_cb(ctx, choose_protocol, NULL);
    if (!SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) ||
        !SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20") ||
        !SSL_CTX_set_session_id_context(ctx, session_scope, sizeof(session_scope) - 1)) {
        SSL_CTX_free(ctx);
        return NULL;
    }
    return ctx;
}

int tls_server_new(struct tls_server **out, const char *cert_path, const char *key_path,
                   struct err *err)
{
    struct tls_server *tls = calloc(1, sizeof(*tls));
    int rc;

    if (!tls)
        return err_set(err, ERR_NOMEM, "no memory for TLS");
    pthread_mutex_init(&tls->lock, NULL);
    tls->cert_path = strdup(cert_path);
    tls->key_path = strdup(key_path);
    if (!tls->cert_path || !tls->key_path) {
        rc = err_set(err, ERR_NOMEM, "no memory for TLS");
        goto out;
    }
    tls->ctx = new_ctx(tls);
    if (!tls->ctx) {
        rc = err_set(err, ERR_NOMEM, "cannot set up TLS: OpenSSL refused");
        goto out;
    }
    rc = identity_read(&tls->identity, tls->ctx, cert_path, key_path, err);
    if (rc < 0)
        goto out;
    *out = tls;
    tls = NULL;
out:
    ERR_clear_error();
    tls_server_free(tls);
    return rc;
}

int tls_server_reload(struct tls_server *tls, struct err *err)
{
    struct identity *fresh = NULL;
    struct identity *old;
    int rc = identity_read(&fresh, tls->ctx, tls->cert_path, tls->key_path, err);

    if (rc < 0)
        return rc;
    pthread_mutex_lock(&tls->lock);
    old = tls->identity;
    tls->identity = fresh;
    pthread_mutex_unlock(&tls->lock);
    identity_put(tls, old);
    return 0;
}

/* "2026-01-31 at 12:00:00 UTC" */
static void write_date(const ASN1_TIME *time, char out[64])
{
    struct tm tm = {0};

    ASN1_TIME_to_tm(time, &tm);
    strftime(out, 64, "%Y-%m-%d at %H:%M:%S UTC", &tm);
}

int tls_server_check_dates(struct tls_server *tls, struct err *err)
{
    struct identity *id = identity_take(tls);
    const ASN1_TIME *first = X509_get0_notBefore(id->certificate);
    const ASN1_TIME *last = X509_get0_notAfter(id->certificate);
    char date[64];
    int rc = 0;

    if (X509_cmp_current_time(last) < 0) {
        write_date(last, date);
        rc = err_set(err, ERR_INVALID, "the certificate in '%s' expired on %s", tls->cert_path,
                     date);
    } else if (X509_cmp_current_time(first) > 0) {
        write_date(first, date);
        rc = err_set(err, ERR_INVALID, "the certificate in '%s' isn't valid before %s",
                     tls->cert_path, date);
    }
    identity_put(tls, id);
    return rc;
}

static int64_t date_ms(const ASN1_TIME *time)
{
    struct tm tm = {0};

    ASN1_TIME_to_tm(time, &tm);
    return (int64_t)timegm(&tm) * 1000;
}

void tls_server_get_dates(struct tls_server *tls, int64_t *out_from_ms, int64_t *out_to_ms)
{
    struct identity *id = identity_take(tls);

    *out_from_ms = date_ms(X509_get0_notBefore(id->certificate));
    *out_to_ms = date_ms(X509_get0_notAfter(id->certificate));
    identity_put(tls, id);
}

void tls_server_free(struct tls_server *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx);
    identity_free(tls->identity);
    pthread_mutex_destroy(&tls->lock);
    free(tls->cert_path);
    free(tls->key_path);
    free(tls);
}

void *tls_server_ctx(struct tls_server *tls)
{
    return tls->ctx;
}
