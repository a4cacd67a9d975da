/* SPDX-License-Identifier: MIT */
#include "script/pattern.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

/*
 * A place to come back to. Of a greedy item ("a*", "a+", "a?") the rest of the pattern was tried
 * at `at`, and can be tried at each place before it down to first. Of a lazy one ("a-") it was tried
 * at `at`, and can be tried one further if the item matches there.
 */
struct choice {
    const char *rest;  /* the pattern behind the item */
    const char *item;  /* of a lazy one; else NULL */
    const char *at;    /* in the subject */
    const char *first; /* of a greedy one */
    uint32_t closed;   /* the captures as they were */
    int count;
};

/* The way that is being tried. */
struct way {
    const char *s; /* in the subject; NULL: it has failed */
    const char *p; /* in the pattern */
    int depth;     /* choices behind it */
};

static void fail(struct pattern *m, const char *problem)
{
    snprintf(m->problem, sizeof(m->problem), "%s", problem);
    m->rc = ERR_INVALID;
}

int pattern_spend(struct pattern *m, size_t steps)
{
    m->steps_left -= (int64_t)steps;
    if (m->steps_left > 0)
        return 0;
    m->steps_left = PATTERN_STEPS;
    if (!m->ask || !m->ask(m->arg))
        return 0;
    m->rc = ERR_LIMIT;
    return m->rc;
}

void pattern_init(struct pattern *m, const char *subject, size_t subject_len, const char *text,
                  size_t text_len, bool (*ask)(void *arg), void *arg)
{
    m->subject = subject;
    m->subject_end = subject + subject_len;
    m->text = text;
    m->text_end = text + text_len;
    m->ask = ask;
    m->arg = arg;
    m->steps_left = PATTERN_STEPS;
    m->count = 0;
    m->closed = 0;
    m->rc = 0;
}

/* ------------------------------------------------------------------------- one character */

/* %a and its like; a capital letter is the opposite, and what is no class stands for itself. */
static bool is_of_class(unsigned char c, unsigned char class)
{
    int is;

    switch (class | 0x20) {
    case 'a':
        is = isalpha(c);
        break;
    case 'c':
        is = iscntrl(c);
        break;
    case 'd':
        is = isdigit(c);
        break;
    case 'g':
        is = isgraph(c);
        break;
    case 'l':
        is = islower(c);
        break;
    case 'p':
        is = ispunct(c);
        break;
    case 's':
        is = isspace(c);
        break;
    case 'u':
        is = isupper(c);
        break;
    case 'w':
        is = isalnum(c);
        break;
    case 'x':
        is = isxdigit(c);
        break;
    case 'z': /* of Lua 5.1, still there */
        is = c == 0;
        break;
    default:
        return c == class;
    }
    return isupper(class) ? !is : !!is;
}

/* set is behind the '[', end at the ']'. */
static bool is_in_set(unsigned char c, const char *set, const char *end)
{
    bool found = true;

    if (*set == '^') {
        found = false;
        set++;
    }
    while (set < end) {
        unsigned char low = (unsigned char)*set++;

        if (low == '%') {
            if (is_of_class(c, (unsigned char)*set++))
                return found;
        } else if (end - set >= 2 && *set == '-') {
            if (low <= c && c <= (unsigned char)set[1])
                return found;
            set += 2;
        } else if (low == c) {
            return found;
        }
    }
    return !found;
}

/* Whether the character matches the item, which is a character, '.', a class or a set. */
static inline bool is_match(unsigned char c, const char *item, const char *item_end)
{
    switch (*item) {
    case '.':
        return true;
    case '%':
        return is_of_class(c, (unsigned char)item[1]);
    case '[':
        return is_in_set(c, item + 1, item_end - 1);
    default:
        return (unsigned char)*item == c;
    }
}

/* The end of the set whose '[' is at item. A ']' that comes first is an ordinary character. */
static const char *find_set_end(struct pattern *m, const char *item)
{
    const char *p = item + 1;
    bool first = true;

    if (p < m->text_end && *p == '^')
        p++;
    for (; p < m->text_end; p++, first = false) {
        if (*p == ']' && !first)
            return p + 1;
        if (*p == '%' && p + 1 < m->text_end)
            p++;
    }
    fail(m, "malformed pattern (missing ']')");
    return NULL;
}

static inline const char *find_item_end(struct pattern *m, const char *item)
{
    if (*item == '[')
        return find_set_end(m, item);
    if (*item != '%')
        return item + 1;
    if (item + 1 < m->text_end)
        return item + 2;
    fail(m, "malformed pattern (ends with '%')");
    return NULL;
}

/* ------------------------------------------------------------------------- captures */

/* s with a capture begun there, and *p behind the item. */
static const char *open_capture(struct pattern *m, const char *s, const char **p)
{
    bool is_position = *p + 1 < m->text_end && (*p)[1] == ')';
    int i = m->count;

    if (i == PATTERN_CAPTURES_MAX) {
        fail(m, "too many captures");
        return NULL;
    }
    m->count++;
    m->captures[i].start = s;
    m->closed &= ~(UINT32_C(1) << i);
    if (is_position) {
        m->captures[i].len = PATTERN_POSITION;
        m->closed |= UINT32_C(1) << i;
    }
    *p += is_position ? 2 : 1;
    return s;
}

/* The one that was opened last and isn't closed ends at s. */
static const char *close_capture(struct pattern *m, const char *s)
{
    for (int i = m->count - 1; i >= 0; i--) {
        if (m->closed & (UINT32_C(1) << i))
            continue;
        m->captures[i].len = (size_t)(s - m->captures[i].start);
        m->closed |= UINT32_C(1) << i;
        return s;
    }
    fail(m, "invalid pattern capture");
    return NULL;
}

/* %1: what that capture holds, once more. */
static const char *match_again(struct pattern *m, const char *s, char digit)
{
    int i = digit - '1';
    size_t len;

    if (i < 0 || i >= m->count || !(m->closed & (UINT32_C(1) << i))) {
        fail(m, "");
        snprintf(m->problem, sizeof(m->problem), "invalid capture index %%%d", i + 1);
        return NULL;
    }
    len = m->captures[i].len;
    if (len > (size_t)(m->subject_end - s)) /* so is a position */
        return NULL;
    if (pattern_spend(m, len / 16) < 0 || memcmp(m->captures[i].start, s, len) != 0)
        return NULL;
    return s + len;
}

/* ------------------------------------------------------------------------- other items */

/* %bxy: from an x to the y that closes it. */
static const char *match_balance(struct pattern *m, const char *s, const char *p)
{
    const char *end = m->subject_end;
    int64_t open = 1;

    if (m->text_end - p < 4) {
        fail(m, "malformed pattern (missing arguments to '%b')");
        return NULL;
    }
    if (s == end || *s != p[2])
        return NULL;
    while (++s < end) {
        if (*s == p[3]) {
            if (--open == 0)
                return s + 1;
        } else if (*s == p[2]) {
            open++;
        }
        if (--m->steps_left <= 0 && pattern_spend(m, 0) < 0)
            return NULL;
    }
    return NULL;
}

/* %f[set]: between a character that isn't in the set and one that is. *p goes behind the item. */
static const char *match_frontier(struct pattern *m, const char *s, const char **p)
{
    const char *set = *p + 2, *set_end;
    char before, after;

    if (set >= m->text_end || *set != '[') {
        fail(m, "missing '[' after '%f' in pattern");
        return NULL;
    }
    set_end = find_set_end(m, set);
    if (!set_end || pattern_spend(m, (size_t)(set_end - set)) < 0)
        return NULL;
    before = s > m->subject ? s[-1] : '\0';
    after = s < m->subject_end ? *s : '\0';
    *p = set_end;
    if (is_match((unsigned char)before, set, set_end) ||
        !is_match((unsigned char)after, set, set_end))
        return NULL;
    return s;
}

/* The end of the longest row of characters from s that match the item; NULL when it was stopped. */
static const char *find_row_end(struct pattern *m, const char *s, const char *item,
                                const char *item_end)
{
    const char *end = m->subject_end;
    int64_t cost = item_end - item, left = m->steps_left;

    if (*item == '.')
        return end;
    while (s < end && is_match((unsigned char)*s, item, item_end)) {
        s++;
        left -= cost;
        if (left > 0)
            continue;
        if (pattern_spend(m, (size_t)m->steps_left) < 0)
            return NULL;
        left = m->steps_left;
    }
    m->steps_left = left;
    return s;
}

/* ------------------------------------------------------------------------- ways and choices */

static struct choice *add_choice(struct pattern *m, struct way *way, struct choice *choices)
{
    struct choice *choice = &choices[way->depth];

    if (way->depth == PATTERN_CHOICES_MAX) {
        fail(m, "pattern too complex");
        way->s = NULL;
        return NULL;
    }
    way->depth++;
    choice->closed = m->closed;
    choice->count = m->count;
    return choice;
}

/* Take the longest of the ways first..at, and note the others. */
static void repeat_greedily(struct pattern *m, struct way *way, struct choice *choices,
                            const char *first, const char *at)
{
    struct choice *choice;

    way->s = at;
    if (!at || first == at)
        return;
    choice = add_choice(m, way, choices);
    if (!choice)
        return;
    choice->rest = way->p;
    choice->item = NULL;
    choice->at = at;
    choice->first = first;
}

static void repeat_lazily(struct pattern *m, struct way *way, struct choice *choices,
                          const char *item)
{
    struct choice *choice = add_choice(m, way, choices);

    if (!choice)
        return;
    choice->rest = way->p;
    choice->item = item;
    choice->at = way->s;
}

/* An item that is one character, '.', a class or a set, with what follows: '*', '+', '-' or '?'. */
static void match_item(struct pattern *m, struct way *way, struct choice *choices)
{
    const char *s = way->s, *item = way->p, *item_end = find_item_end(m, item);
    bool matches;

    if (!item_end) {
        way->s = NULL;
        return;
    }
    matches = s < m->subject_end && is_match((unsigned char)*s, item, item_end);
    m->steps_left -= item_end - item - 1;
    way->p = item_end < m->text_end ? item_end + 1 : item_end;
    switch (item_end < m->text_end ? *item_end : '\0') {
    case '?':
        if (matches)
            repeat_greedily(m, way, choices, s, s + 1);
        break;
    case '*':
        if (matches)
            repeat_greedily(m, way, choices, s, find_row_end(m, s + 1, item, item_end));
        break;
    case '+':
        way->s = NULL;
        if (matches)
            repeat_greedily(m, way, choices, s + 1, find_row_end(m, s + 1, item, item_end));
        break;
    case '-':
        if (matches)
            repeat_lazily(m, way, choices, item);
        break;
    default:
        way->s = matches ? s + 1 : NULL;
        way->p = item_end;
        break;
    }
}

static void take_step(struct pattern *m, struct way *way, struct choice *choices)
{
    const char *p = way->p;

    switch (*p) {
    case '(':
        way->s = open_capture(m, way->s, &way->p);
        return;
    case ')':
        way->s = close_capture(m, way->s);
        way->p++;
        return;
    case '$':
        if (p + 1 != m->text_end)
            break;
        if (way->s != m->subject_end)
            way->s = NULL;
        way->p++;
        return;
    case '%':
        if (p + 1 == m->text_end)
            break;
        if (p[1] == 'b') {
            way->s = match_balance(m, way->s, p);
            way->p += 4;
            return;
        }
        if (p[1] == 'f') {
            way->s = match_frontier(m, way->s, &way->p);
            return;
        }
        if (p[1] >= '0' && p[1] <= '9') {
            way->s = match_again(m, way->s, p[1]);
            way->p += 2;
            return;
        }
        break;
    default:
        break;
    }
    match_item(m, way, choices);
}

/* Back to the latest choice that has another way left. False: there is none. */
static bool take_other_way(struct pattern *m, struct way *way, struct choice *choices)
{
    while (way->depth > 0) {
        struct choice *choice = &choices[way->depth - 1];

        m->count = choice->count;
        m->closed = choice->closed;
        way->p = choice->rest;
        if (!choice->item) {
            way->s = --choice->at;
            if (choice->at == choice->first)
                way->depth--;
            return true;
        }
        m->steps_left -= choice->rest - choice->item;
        if (choice->at < m->subject_end &&
            is_match((unsigned char)*choice->at, choice->item, choice->rest - 1)) {
            way->s = ++choice->at;
            return true;
        }
        way->depth--;
    }
    return false;
}

int pattern_match(struct pattern *m, const char *start, const char **out_end)
{
    struct choice choices[PATTERN_CHOICES_MAX];
    struct way way = {.s = start, .p = m->text};

    m->count = 0;
    m->closed = 0;
    m->rc = 0;
    for (;;) {
        if (--m->steps_left <= 0 && pattern_spend(m, 0) < 0)
            return m->rc;
        if (way.p == m->text_end) {
            *out_end = way.s;
            return 1;
        }
        take_step(m, &way, choices);
        if (way.s)
            continue;
        if (m->rc < 0)
            return m->rc;
        if (!take_other_way(m, &way, choices))
            return 0;
    }
}

/* ------------------------------------------------------------------------- searching */

static const char specials[] = "^$*+?.()[]%-";

/* The character that every match begins with, or -1. */
static int find_first_character(const struct pattern *m)
{
    const char *p = m->text;

    if (p == m->text_end || memchr(specials, *p, sizeof(specials) - 1))
        return -1;
    if (p + 1 < m->text_end && strchr("*?-", p[1]) && p[1] != '\0')
        return -1;
    return (unsigned char)*p;
}

int pattern_search(struct pattern *m, const char *start, const char **out_start,
                   const char **out_end)
{
    int first = find_first_character(m);

    for (const char *s = start; s <= m->subject_end; s++) {
        int rc;

        if (first >= 0) {
            const char *from = s;

            s = memchr(s, first, (size_t)(m->subject_end - s));
            if (!s)
                return 0;
            if (pattern_spend(m, (size_t)(s - from) / 16) < 0)
                return m->rc;
        }
        rc = pattern_match(m, s, out_end);
        if (rc == 0)
            continue;
        if (rc > 0)
            *out_start = s;
        return rc;
    }
    return 0;
}

bool pattern_is_plain(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] != ')' && text[i] != ']' && memchr(specials, text[i], sizeof(specials) - 1))
            return false;
    return true;
}

const char *pattern_find_plain(const char *start, const char *end, const char *text, size_t len)
{
    return memmem(start, (size_t)(end - start), text, len);
}
