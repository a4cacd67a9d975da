/* SPDX-License-Identifier: MIT */
/*
 * token - an access token as AuthKit signs it, and the key set that it is checked with.
 *
 * Signed once and for all, so that every run checks the same bytes; nobody has the private key. Its user
 * is number TOKEN_USER of the seed TOKEN_SEED (traffic.h), and it is good until 2100.
 */
#ifndef BENCH_TOKEN_H
#define BENCH_TOKEN_H

#define TOKEN_SEED "GUARD0"
#define TOKEN_CLIENT_ID "client_bench"
#define TOKEN_ISSUER "https://api.workos.com/user_management/client_bench"
enum { TOKEN_USER = 40 };

static const char token_key_set[] =
    "{\"keys\":[{\"kty\":\"RSA\",\"alg\":\"RS256\",\"use\":\"sig\",\"kid\":\"sso_oidc_key_pair_"
    "01BENCH\",\"e\":\"AQAB\","
    "\"n\":\""
    "v-bHtZ06NNtX6UquBF1Q90kzfS4xemlyUSNaO1oxaAai3VMoTXb_PhBSLgkhaiLaKiw2SKFlsAgd_k2yTYBs"
    "pdjmowpD45eluGdgLyXn2rkkBPrs2n2Vb7g6WRmtmmOIJls15E19AoBktj2MBPcR50B6zKp5EBD-WDq5SLLs"
    "FWD42KidYSvXCxLrDETKMRpphitZs8aBbKiK72NMkIrKNBZh6JM56cpsB-INxnLyu0Tri8SpEGYoAfHEJdur"
    "OBxuHvnwfmsnojoXVf8IUp0UdCLaIddvxSSVtUtq5K3_8kXWHb3wkhsmgw91o0SjCOkflIHJuHwjMtgsdD0k"
    "EHIMGQ"
    "\"}]}";

static const char token_bearer[] =
    "Bearer "
    "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCIsImtpZCI6InNzb19vaWRjX2tleV9wYWlyXzAxQkVOQ0gifQ.e"
    "yJpc3MiOiJodHRwczovL2FwaS53b3Jrb3MuY29tL3VzZXJfbWFuYWdlbWVudC9jbGllbnRfYmVuY2giLCJzd"
    "WIiOiJ1c2VyXzAxSzVHVUFSRDAwMDAwMDAwMDAwMDAwMDQwIiwic2lkIjoic2Vzc2lvbl8wMUs1R1VBUkQwM"
    "DAwMDAwMDAwMDAwMDAwMCIsImp0aSI6IjAxSzVHVUFSRDAwMDAwMDAwMDAwMDAwMDAxIiwiY2xpZW50X2lkI"
    "joiY2xpZW50X2JlbmNoIiwib3JnX2lkIjoib3JnXzAxSzVHVUFSRDAwMDAwMDAwMDAwMDAwMDAiLCJyb2xlI"
    "joibWVtYmVyIiwicGVybWlzc2lvbnMiOlsibGlzdHM6cmVhZCIsImxpc3RzOndyaXRlIl0sImlhdCI6MTc2O"
    "DI0OTA2NywiZXhwIjo0MTAyNDQ0ODAwfQ.gra6fScaEwrFZBKAl-xoR-u4l9tGRKPe7e9xgssHDy4GjDxCxC"
    "H0jr8wqDWJl8JNq0KjKyXQ-f2HaorZbfsZeRkL2XerQjBn8b_h1c5gnS-QRwuHddO8fG1N4pLBgTMFWQyHZf"
    "ywI9Lj-P3yjxxkFBhsnXsUR6yIAOJClcJLRKHmD_6mIF6ycngUrSkL_tpmQa5iuTIcCZxkWJ1gwjDL2o_zzV"
    "sxmk8RHKL8TVRA864s2IC6n4NiK7ddw60s-ALTnqgdzT_PNEQ6dXvyKCRl_b62z-c1Jf4dAAEpxvsrH6R7NU"
    "aVN5MzWSDJWou34Dit2GT0KMmhzH4skcvIDAJzCQ";

#endif
