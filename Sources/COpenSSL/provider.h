// OpenSSL 3 for a packet path: ciphers are called through the provider's own dispatch table
// (provider-cipher(7), provider-digest(7), stable ABI, public headers), because EVP_EncryptInit_ex
// asks the provider for the IV length with eight string searches on every packet.
//
// Everything here is static inline: Swift imports the bodies and inlines them. Lengths and
// pointers are the caller's duty (module Crypto); nothing here allocates except *_new and *_rekey.
#pragma once
#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/opensslv.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

// One cipher's entry points, copied out of the provider's dispatch table.
typedef struct {
    void *provider_context;
    OSSL_FUNC_cipher_newctx_fn *new_context;
    OSSL_FUNC_cipher_freectx_fn *free_context;
    OSSL_FUNC_cipher_encrypt_init_fn *encrypt_init;
    OSSL_FUNC_cipher_decrypt_init_fn *decrypt_init;
    OSSL_FUNC_cipher_cipher_fn *cipher;
    OSSL_FUNC_cipher_update_fn *update;
    OSSL_FUNC_cipher_final_fn *final;
    OSSL_FUNC_cipher_get_ctx_params_fn *get_params;
    OSSL_FUNC_cipher_set_ctx_params_fn *set_params;
} spindle_cipher;

// `names` is the provider's "AES-256-GCM:id-aes256-GCM:2.16.840…"; any of them may match.
static inline int spindle_names_contain(const char *names, const char *wanted) {
    size_t length = strlen(wanted);
    while (names != NULL) {
        const char *end = strchr(names, ':');
        size_t name_length = end ? (size_t)(end - names) : strlen(names);
        if (name_length == length && strncasecmp(names, wanted, length) == 0) return 1;
        names = end ? end + 1 : NULL;
    }
    return 0;
}

// 1 and `out` filled, or 0 when the provider lacks the cipher or one of the functions.
static inline int spindle_cipher_find(
    OSSL_PROVIDER *provider, const char *name, spindle_cipher *out) {
    int no_cache = 0;
    const OSSL_ALGORITHM *all =
        OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &no_cache);
    if (no_cache) return 0;
    for (; all != NULL && all->algorithm_names != NULL; all++) {
        if (!spindle_names_contain(all->algorithm_names, name)) continue;
        memset(out, 0, sizeof *out);
        out->provider_context = OSSL_PROVIDER_get0_provider_ctx(provider);
        for (const OSSL_DISPATCH *d = all->implementation; d->function_id != 0; d++) {
            switch (d->function_id) {
            case OSSL_FUNC_CIPHER_NEWCTX: out->new_context = OSSL_FUNC_cipher_newctx(d); break;
            case OSSL_FUNC_CIPHER_FREECTX: out->free_context = OSSL_FUNC_cipher_freectx(d); break;
            case OSSL_FUNC_CIPHER_ENCRYPT_INIT:
                out->encrypt_init = OSSL_FUNC_cipher_encrypt_init(d);
                break;
            case OSSL_FUNC_CIPHER_DECRYPT_INIT:
                out->decrypt_init = OSSL_FUNC_cipher_decrypt_init(d);
                break;
            case OSSL_FUNC_CIPHER_CIPHER: out->cipher = OSSL_FUNC_cipher_cipher(d); break;
            case OSSL_FUNC_CIPHER_UPDATE: out->update = OSSL_FUNC_cipher_update(d); break;
            case OSSL_FUNC_CIPHER_FINAL: out->final = OSSL_FUNC_cipher_final(d); break;
            case OSSL_FUNC_CIPHER_GET_CTX_PARAMS:
                out->get_params = OSSL_FUNC_cipher_get_ctx_params(d);
                break;
            case OSSL_FUNC_CIPHER_SET_CTX_PARAMS:
                out->set_params = OSSL_FUNC_cipher_set_ctx_params(d);
                break;
            default: break;
            }
        }
        return out->new_context && out->free_context && out->encrypt_init && out->decrypt_init &&
               out->cipher && out->update && out->final && out->get_params && out->set_params;
    }
    return 0;
}

// One octet-string parameter and the end mark, as the provider's set/get functions want them.
#define SPINDLE_PARAM(variable, name, pointer, length)                                        \
    OSSL_PARAM variable[2] = {                                                                \
        {name, OSSL_PARAM_OCTET_STRING, (void *)(pointer), length, OSSL_PARAM_UNMODIFIED},    \
        {NULL, 0, NULL, 0, 0}}

// Sets IV length (CCM only, where it fixes L) and tag length, then the key. 1 on success.
static inline int spindle_cipher_key(
    const spindle_cipher *c, void *context, int encrypt, const uint8_t *key, size_t key_length,
    size_t ccm_iv_length, size_t ccm_tag_length) {
    if (context == NULL) return 0;
    if (ccm_iv_length != 0) {
        OSSL_PARAM params[3] = {
            {OSSL_CIPHER_PARAM_AEAD_IVLEN, OSSL_PARAM_UNSIGNED_INTEGER, &ccm_iv_length,
             sizeof ccm_iv_length, OSSL_PARAM_UNMODIFIED},
            {OSSL_CIPHER_PARAM_AEAD_TAG, OSSL_PARAM_OCTET_STRING, NULL, ccm_tag_length,
             OSSL_PARAM_UNMODIFIED},
            {NULL, 0, NULL, 0, 0}};
        if (!c->set_params(context, params)) return 0;
    }
    return encrypt ? c->encrypt_init(context, key, key_length, NULL, 0, NULL)
                   : c->decrypt_init(context, key, key_length, NULL, 0, NULL);
}

// A context with a key, and the tag's parameter made ready once: only its address changes per packet.
typedef struct {
    const spindle_cipher *cipher;
    void *context;
    // CCM must hear the message length before the AAD (NIST SP 800-38C). It is told through `update`,
    // because recent releases take `cipher` without input for the end of the message.
    int is_ccm;
    OSSL_PARAM tag[2];
} spindle_keyed;

static inline void spindle_keyed_prepare(spindle_keyed *k, int is_ccm, size_t tag_length) {
    SPINDLE_PARAM(tag, OSSL_CIPHER_PARAM_AEAD_TAG, NULL, tag_length);
    k->is_ccm = is_ccm;
    memcpy(k->tag, tag, sizeof tag);
}

// One message. Fields are read where they are used: kept in registers, they would be saved around
// each of the calls.
typedef struct {
    const uint8_t *aad;
    size_t aad_length;
    const uint8_t *iv;
    size_t iv_length;
    uint8_t *data;
    size_t length;
    uint8_t *tag;
} spindle_message;

static __attribute__((noinline, unused)) int spindle_ccm_seal(
    spindle_keyed *k, const spindle_message *m) {
    const spindle_cipher *c = k->cipher;
    size_t done = 0;
    if (!c->encrypt_init(k->context, NULL, 0, m->iv, m->iv_length, NULL)) return 0;
    if (!c->update(k->context, NULL, &done, m->length, NULL, m->length)) return 0;
    if (m->aad_length &&
        !c->cipher(k->context, NULL, &done, m->aad_length, m->aad, m->aad_length))
        return 0;
    if (!c->cipher(k->context, m->data, &done, m->length, m->data, m->length)) return 0;
    k->tag[0].data = m->tag;
    return c->get_params(k->context, k->tag);
}

static __attribute__((noinline, unused)) int spindle_ccm_open(
    spindle_keyed *k, const spindle_message *m) {
    const spindle_cipher *c = k->cipher;
    size_t done = 0;
    k->tag[0].data = m->tag;
    if (!c->decrypt_init(k->context, NULL, 0, m->iv, m->iv_length, k->tag)) return 0;
    if (!c->update(k->context, NULL, &done, m->length, NULL, m->length)) return 0;
    if (m->aad_length &&
        !c->cipher(k->context, NULL, &done, m->aad_length, m->aad, m->aad_length))
        return 0;
    return c->cipher(k->context, m->data, &done, m->length, m->data, m->length);
}

// AEAD in place.
static inline int spindle_aead_seal(spindle_keyed *k, const spindle_message *m) {
    if (k->is_ccm) return spindle_ccm_seal(k, m);
    const spindle_cipher *c = k->cipher;
    void *context = k->context;
    size_t done = 0;
    if (!c->encrypt_init(context, NULL, 0, m->iv, m->iv_length, NULL)) return 0;
    if (m->aad_length && !c->cipher(context, NULL, &done, m->aad_length, m->aad, m->aad_length))
        return 0;
    if (m->length && !c->cipher(context, m->data, &done, m->length, m->data, m->length)) return 0;
    if (!c->final(context, m->data, &done, 16)) return 0;
    k->tag[0].data = m->tag;
    return c->get_params(context, k->tag);
}

// AEAD in place; 0 when the tag is wrong. The plaintext is in `data` even then: the caller wipes it.
static inline int spindle_aead_open(spindle_keyed *k, const spindle_message *m) {
    if (k->is_ccm) return spindle_ccm_open(k, m);
    const spindle_cipher *c = k->cipher;
    void *context = k->context;
    size_t done = 0;
    k->tag[0].data = m->tag;
    if (!c->decrypt_init(context, NULL, 0, m->iv, m->iv_length, k->tag)) return 0;
    if (m->aad_length && !c->cipher(context, NULL, &done, m->aad_length, m->aad, m->aad_length))
        return 0;
    if (m->length && !c->cipher(context, m->data, &done, m->length, m->data, m->length)) return 0;
    return c->final(context, m->data, &done, 16);
}

// CBC (whole blocks, no padding) or CTR, in place.
static inline int spindle_cipher_run(
    const spindle_cipher *c, void *context, int encrypt, const uint8_t *iv, uint8_t *data,
    size_t length) {
    size_t done = 0;
    int started = encrypt ? c->encrypt_init(context, NULL, 0, iv, 16, NULL)
                          : c->decrypt_init(context, NULL, 0, iv, 16, NULL);
    return started && (length == 0 || c->cipher(context, data, &done, length, data, length));
}

// One hash function's entry points. EVP would allocate for every packet: it resumes a saved state by
// making a new one.
typedef struct {
    void *provider_context;
    OSSL_FUNC_digest_newctx_fn *new_context;
    OSSL_FUNC_digest_freectx_fn *free_context;
    OSSL_FUNC_digest_init_fn *init;
    OSSL_FUNC_digest_update_fn *update;
    OSSL_FUNC_digest_final_fn *final;
    size_t block, size;
} spindle_digest;

static inline int spindle_digest_find(
    OSSL_PROVIDER *provider, const char *name, size_t block, size_t size, spindle_digest *out) {
    int no_cache = 0;
    const OSSL_ALGORITHM *all =
        OSSL_PROVIDER_query_operation(provider, OSSL_OP_DIGEST, &no_cache);
    if (no_cache) return 0;
    for (; all != NULL && all->algorithm_names != NULL; all++) {
        if (!spindle_names_contain(all->algorithm_names, name)) continue;
        memset(out, 0, sizeof *out);
        out->provider_context = OSSL_PROVIDER_get0_provider_ctx(provider);
        out->block = block;
        out->size = size;
        for (const OSSL_DISPATCH *d = all->implementation; d->function_id != 0; d++) {
            switch (d->function_id) {
            case OSSL_FUNC_DIGEST_NEWCTX: out->new_context = OSSL_FUNC_digest_newctx(d); break;
            case OSSL_FUNC_DIGEST_FREECTX: out->free_context = OSSL_FUNC_digest_freectx(d); break;
            case OSSL_FUNC_DIGEST_INIT: out->init = OSSL_FUNC_digest_init(d); break;
            case OSSL_FUNC_DIGEST_UPDATE: out->update = OSSL_FUNC_digest_update(d); break;
            case OSSL_FUNC_DIGEST_FINAL: out->final = OSSL_FUNC_digest_final(d); break;
            default: break;
            }
        }
        return out->new_context && out->free_context && out->init && out->update && out->final;
    }
    return 0;
}

// HMAC (RFC 2104): a hash context, and the key xored with both paddings, one block each.
typedef struct {
    const spindle_digest *digest;
    void *context;
    uint8_t *pads;
} spindle_hmac;

#define SPINDLE_BLOCK_MAX 128

// Frees the context, wiped, and the key.
static inline void spindle_hmac_erase(spindle_hmac *m) {
    if (m->digest != NULL && m->context != NULL) m->digest->free_context(m->context);
    OPENSSL_clear_free(m->pads, 2 * SPINDLE_BLOCK_MAX);
    memset(m, 0, sizeof *m);
}

static inline int spindle_hmac_key(
    spindle_hmac *m, const spindle_digest *digest, const uint8_t *key, size_t key_length) {
    if (m->digest != digest) {
        spindle_hmac_erase(m);
        m->digest = digest;
        m->context = digest->new_context(digest->provider_context);
        m->pads = OPENSSL_malloc(2 * SPINDLE_BLOCK_MAX);
    }
    if (m->context == NULL || m->pads == NULL) return 0;
    uint8_t *inner = m->pads, *outer = m->pads + SPINDLE_BLOCK_MAX;
    memset(inner, 0, SPINDLE_BLOCK_MAX);
    if (key_length > digest->block) {
        size_t size = 0;
        if (!digest->init(m->context, NULL) || !digest->update(m->context, key, key_length) ||
            !digest->final(m->context, inner, &size, digest->size))
            return 0;
    } else if (key_length != 0) {
        memcpy(inner, key, key_length);
    }
    for (size_t i = 0; i < digest->block; i++) {
        outer[i] = inner[i] ^ 0x5c;
        inner[i] ^= 0x36;
    }
    return 1;
}

// The full-length HMAC of `data | tail` into `out` (EVP_MAX_MD_SIZE bytes); 0 without a key. `tail`: the high half
// of an extended sequence number, which is authenticated but not sent (RFC 4303 §2.2.1).
static inline int spindle_hmac_run(
    const spindle_hmac *m, const uint8_t *data, size_t length, const uint8_t *tail,
    size_t tail_length, uint8_t *out) {
    const spindle_digest *d = m->digest;
    void *context = m->context;
    size_t size = 0;
    return d != NULL && d->init(context, NULL) && d->update(context, m->pads, d->block) &&
           d->update(context, data, length) &&
           (tail_length == 0 || d->update(context, tail, tail_length)) &&
           d->final(context, out, &size, d->size) && d->init(context, NULL) &&
           d->update(context, m->pads + SPINDLE_BLOCK_MAX, d->block) &&
           d->update(context, out, d->size) && d->final(context, out, &size, d->size);
}

static inline void spindle_prefetch(const void *address) { __builtin_prefetch(address, 1, 3); }

// The calls that OpenSSL's manual shows for AES-256-GCM with a context kept per key: the baseline of
// benchmarks and the oracle of tests.
static inline int spindle_plain_seal(
    EVP_CIPHER_CTX *c, const uint8_t *iv, const uint8_t *aad, int aad_length, uint8_t *data,
    int length, uint8_t *tag, int tag_length) {
    int done = 0;
    return EVP_EncryptInit_ex(c, NULL, NULL, NULL, iv) &&
           EVP_EncryptUpdate(c, NULL, &done, aad, aad_length) &&
           EVP_EncryptUpdate(c, data, &done, data, length) &&
           EVP_EncryptFinal_ex(c, data + length, &done) &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, tag_length, tag);
}

static inline int spindle_plain_open(
    EVP_CIPHER_CTX *c, const uint8_t *iv, const uint8_t *aad, int aad_length, uint8_t *data,
    int length, uint8_t *tag, int tag_length) {
    int done = 0;
    return EVP_DecryptInit_ex(c, NULL, NULL, NULL, iv) &&
           EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, tag_length, tag) &&
           EVP_DecryptUpdate(c, NULL, &done, aad, aad_length) &&
           EVP_DecryptUpdate(c, data, &done, data, length) &&
           EVP_DecryptFinal_ex(c, data + length, &done) > 0;
}
