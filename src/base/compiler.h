/* SPDX-License-Identifier: MIT */
/*
 * compiler - what we ask of the compiler, in one place.
 *
 * MUST_CHECK marks a function whose result may not be dropped. The thread-safety annotations are
 * checked by clang (-Wthread-safety) and are nothing to gcc. Include it first.
 */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#if defined(__clang__)
#define THREAD_ROLE(name) __attribute__((capability(name)))
#define ON_THREAD(role) __attribute__((requires_capability(role)))
#define ENTERS_THREAD(role) __attribute__((assert_capability(role)))
#else
#define THREAD_ROLE(name)
#define ON_THREAD(role)
#define ENTERS_THREAD(role)
#endif

#endif
