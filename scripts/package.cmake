# How CPack packs what scripts/release has laid out: cpack --config scripts/package.cmake
#
# The folder with the files as they are to be installed, and all that differs from release to release, comes
# in the environment (AUTHKITD_PACKAGE_…).
set(CPACK_GENERATOR DEB)
set(CPACK_INSTALLED_DIRECTORIES "$ENV{AUTHKITD_PACKAGE_ROOT}" /)
set(CPACK_PACKAGING_INSTALL_PREFIX /)
set(CPACK_PACKAGE_DIRECTORY "$ENV{AUTHKITD_PACKAGE_OUT}")
set(CPACK_OUTPUT_FILE_PREFIX "$ENV{AUTHKITD_PACKAGE_OUT}")

set(CPACK_PACKAGE_NAME authkitd)
set(CPACK_PACKAGE_VERSION "$ENV{AUTHKITD_PACKAGE_VERSION}")
set(CPACK_PACKAGE_FILE_NAME authkitd) # of CPack's own working folder; the package's is DEB-DEFAULT
set(CPACK_PACKAGE_CONTACT "$ENV{AUTHKITD_PACKAGE_MAINTAINER}")
set(CPACK_PACKAGE_VENDOR "authkitd contributors")
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE "$ENV{AUTHKITD_PACKAGE_ARCHITECTURE}")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION httpd)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "keep WorkOS's users in SQLite, and run Lua functions for its events")
set(CPACK_PACKAGE_DESCRIPTION "WorkOS AuthKit signs the users of an app in. authkitd sits beside the app and
takes WorkOS's webhooks: it keeps every user, organization, membership and
invitation in a SQLite database, as they are now, and runs a Lua function of
yours for each event, exactly once, in the transaction that stores the event.
It also answers WorkOS's actions (may this person register?).

The service is not started before you have filled in its secrets, in
/etc/authkitd/authkitd.env.")

# adduser makes the service's user, and procps has the kill of systemctl reload; without ca-certificates WorkOS's own certificate can't be judged.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "$ENV{AUTHKITD_PACKAGE_DEPENDS}, adduser, procps")
set(CPACK_DEBIAN_PACKAGE_RECOMMENDS ca-certificates)
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "bash-completion, sqlite3")
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    "${CMAKE_CURRENT_LIST_DIR}/debian/postinst"
    "${CMAKE_CURRENT_LIST_DIR}/debian/prerm"
    "${CMAKE_CURRENT_LIST_DIR}/debian/postrm")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION TRUE)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
