/* SPDX-License-Identifier: MIT */
/*
 * cert - certificates that sign themselves, made for a test.
 */
#ifndef TESTS_CRYPTO_CERT_H
#define TESTS_CRYPTO_CERT_H

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <stdio.h>

struct cert {
    EVP_PKEY *key;
    X509 *x509;
};

/* For the name and 127.0.0.1; good for an hour. The key is the cert's from now on. */
static inline struct cert cert_with_key(const char *name, EVP_PKEY *key)
{
    struct cert c = {.key = key, .x509 = X509_new()};
    X509_NAME *subject = X509_get_subject_name(c.x509);
    char names[128];
    X509_EXTENSION *extension;

    X509_set_version(c.x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c.x509), 1);
    X509_gmtime_adj(X509_getm_notBefore(c.x509), -3600);
    X509_gmtime_adj(X509_getm_notAfter(c.x509), 3600);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(c.x509, subject);
    X509_set_pubkey(c.x509, c.key);
    snprintf(names, sizeof(names), "DNS:%s,IP:127.0.0.1", name);
    extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_add_ext(c.x509, extension, -1);
    X509_EXTENSION_free(extension);
    X509_sign(c.x509, c.key, EVP_sha256());
    return c;
}

static inline struct cert cert_new(const char *name)
{
    return cert_with_key(name, EVP_EC_gen("P-256"));
}

/* From now on it is the issuer's work, and no longer its own. */
static inline void cert_sign(struct cert *c, const struct cert *issuer, const EVP_MD *digest)
{
    X509_set_issuer_name(c->x509, X509_get_subject_name(issuer->x509));
    X509_sign(c->x509, issuer->key, digest);
}

static inline void cert_free(struct cert *c)
{
    EVP_PKEY_free(c->key);
    X509_free(c->x509);
}

/* Behind what is in the file already. */
static inline void cert_append(const struct cert *c, const char *cert_path)
{
    FILE *file = fopen(cert_path, "a");

    PEM_write_X509(file, c->x509);
    fclose(file);
}

static inline void cert_write(const struct cert *c, const char *cert_path, const char *key_path)
{
    FILE *file = fopen(cert_path, "w");

    PEM_write_X509(file, c->x509);
    fclose(file);
    file = fopen(key_path, "w");
    PEM_write_PrivateKey(file, c->key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
}

#endif
