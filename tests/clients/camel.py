# Fetches mail with Evolution's library: camel.py PORT none|starttls|pop3s
# password|GSSAPI. Prints all messages of mail.kpopd.test and removes them.
import gi, os, sys

gi.require_version('Camel', '1.2')
from gi.repository import Camel, Gio

port, security, mechanism = int(sys.argv[1]), sys.argv[2], sys.argv[3]
methods = {
    'none': Camel.NetworkSecurityMethod.NONE,
    'starttls': Camel.NetworkSecurityMethod.STARTTLS_ON_STANDARD_PORT,
    'pop3s': Camel.NetworkSecurityMethod.SSL_ON_ALTERNATE_PORT,
}


class Session(Camel.Session):
    def do_authenticate_sync(self, service, mechanism, cancellable):
        service.set_password('x')
        return (
            service.authenticate_sync(mechanism, cancellable)
            == Camel.AuthenticationResult.ACCEPTED
        )

    def do_trust_prompt(self, service, certificate, errors):
        sys.exit('the certificate is not good: %s' % errors)


def bytes_of(message):
    stream = Gio.MemoryOutputStream.new_resizable()
    message.write_to_output_stream_sync(stream, None)
    stream.close(None)
    return stream.steal_as_bytes().get_data()


Camel.init(os.environ['HOME'], False)
Camel.provider_init()
session = Session(
    user_data_dir=os.environ['HOME'] + '/data',
    user_cache_dir=os.environ['HOME'] + '/cache',
)
session.set_online(True)
store = session.add_service('kpopd', 'pop', Camel.ProviderType.STORE)
settings = store.ref_settings()
for name, value in (
    ('host', 'mail.kpopd.test'),
    ('port', port),
    ('user', 'alice'),
    ('security-method', methods[security]),
    ('auth-mechanism', None if mechanism == 'password' else mechanism),
    ('keep-on-server', False),
):
    settings.set_property(name, value)
# All other settings are Evolution's defaults.
store.connect_sync(None)
folder = store.get_inbox_folder_sync(None)
folder.refresh_info_sync(None)
for uid in list(folder.get_uids()):
    sys.stdout.buffer.write(bytes_of(folder.get_message_sync(uid, None)))
    folder.set_message_flags(
        uid, Camel.MessageFlags.DELETED, Camel.MessageFlags.DELETED
    )
folder.synchronize_sync(True, None)
store.disconnect_sync(True, None)
