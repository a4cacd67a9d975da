/* SPDX-License-Identifier: MIT */
#include "app/event_types.h"

#include "base/compiler.h"
#include "base/text.h"

#include <string.h>

/* workos/openapi-spec spec/open-api-spec.yaml, of August 2026. */
const char *const event_types[] = {
    "action.authentication.denied",
    "action.user_registration.denied",
    "agent.registration.claim.attempt.created",
    "agent.registration.claim.completed",
    "agent.registration.created",
    "agent.registration.credential.issued",
    "agent.registration.deleted",
    "agent.registration.expired",
    "agent.registration.organization.switched",
    "agent.registration.refreshed",
    "agent.registration.revoked",
    "api_key.created",
    "api_key.revoked",
    "api_key.updated",
    "authentication.email_verification_failed",
    "authentication.email_verification_succeeded",
    "authentication.magic_auth_failed",
    "authentication.magic_auth_succeeded",
    "authentication.mfa_failed",
    "authentication.mfa_succeeded",
    "authentication.oauth_failed",
    "authentication.oauth_succeeded",
    "authentication.passkey_failed",
    "authentication.passkey_succeeded",
    "authentication.password_failed",
    "authentication.password_succeeded",
    "authentication.radar_risk_detected",
    "authentication.reauthentication_succeeded",
    "authentication.sso_failed",
    "authentication.sso_started",
    "authentication.sso_succeeded",
    "authentication.sso_timed_out",
    "connection.activated",
    "connection.deactivated",
    "connection.deleted",
    "connection.saml_certificate_renewal_required",
    "connection.saml_certificate_renewed",
    "dsync.activated",
    "dsync.deleted",
    "dsync.group.created",
    "dsync.group.deleted",
    "dsync.group.updated",
    "dsync.group.user_added",
    "dsync.group.user_removed",
    "dsync.token.created",
    "dsync.token.revoked",
    "dsync.user.created",
    "dsync.user.deleted",
    "dsync.user.updated",
    "email_verification.created",
    "flag.created",
    "flag.deleted",
    "flag.rule_updated",
    "flag.updated",
    "group.created",
    "group.deleted",
    "group.member_added",
    "group.member_removed",
    "group.updated",
    "invitation.accepted",
    "invitation.created",
    "invitation.resent",
    "invitation.revoked",
    "magic_auth.created",
    "organization.created",
    "organization.deleted",
    "organization.updated",
    "organization_domain.created",
    "organization_domain.deleted",
    "organization_domain.updated",
    "organization_domain.verification_failed",
    "organization_domain.verified",
    "organization_membership.created",
    "organization_membership.deleted",
    "organization_membership.updated",
    "organization_role.created",
    "organization_role.deleted",
    "organization_role.updated",
    "password_reset.created",
    "password_reset.succeeded",
    "permission.created",
    "permission.deleted",
    "permission.updated",
    "pipes.connected_account.connected",
    "pipes.connected_account.connection_failed",
    "pipes.connected_account.disconnected",
    "pipes.connected_account.reauthorization_needed",
    "radar.challenge_created",
    "role.created",
    "role.deleted",
    "role.updated",
    "session.created",
    "session.revoked",
    "user.created",
    "user.deleted",
    "user.updated",
    "vault.byok_key.deleted",
    "vault.byok_key.verification_completed",
    "vault.data.created",
    "vault.data.deleted",
    "vault.data.read",
    "vault.data.updated",
    "vault.dek.decrypted",
    "vault.dek.read",
    "vault.kek.created",
    "vault.kek.deleted",
    "vault.metadata.read",
    "vault.names.listed",
    "waitlist_user.approved",
    "waitlist_user.created",
    "waitlist_user.denied",
};
const size_t event_type_count = ARRAY_LEN(event_types);

/* Those that the same file doesn't list for webhook endpoints. */
static const char *const polled_only[] = {
    "action.authentication.denied",
    "action.user_registration.denied",
    "authentication.email_verification_failed",
    "authentication.mfa_failed",
    "dsync.token.created",
    "dsync.token.revoked",
    "vault.byok_key.deleted",
    "vault.byok_key.verification_completed",
    "vault.data.created",
    "vault.data.deleted",
    "vault.data.read",
    "vault.data.updated",
    "vault.dek.decrypted",
    "vault.dek.read",
    "vault.kek.created",
    "vault.kek.deleted",
    "vault.metadata.read",
    "vault.names.listed",
};

static bool is_one_of(const char *type, const char *const *types, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(types[i], type) == 0)
            return true;
    return false;
}

bool event_type_is_known(const char *type)
{
    return is_one_of(type, event_types, event_type_count);
}

bool event_type_is_polled_only(const char *type)
{
    return is_one_of(type, polled_only, ARRAY_LEN(polled_only));
}

const char *event_type_closest(const char *type)
{
    return text_closest(type, event_types, event_type_count);
}
