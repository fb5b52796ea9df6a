# Heroku runs this when a dyno starts. Its key-value store shows a self-signed certificate, and its add-on owns REDIS_URL, so
# nobody can add the parameter there. Only for those hosts: elsewhere a certificate that cannot be verified is an error.
case "${DYNO:+dyno}:$REDIS_URL" in
  *ssl_cert_reqs=*) ;;
  dyno:rediss://*.amazonaws.com:*\?*) export REDIS_URL="$REDIS_URL&ssl_cert_reqs=none" ;;
  dyno:rediss://*.amazonaws.com:*) export REDIS_URL="$REDIS_URL?ssl_cert_reqs=none" ;;
esac
