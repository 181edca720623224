<?php

declare(strict_types=1);

namespace Elock\Tests\Support;

/**
 * Of a server called `elock.test`, signed by itself.
 */
final class Certificate
{
    public const NAME = 'elock.test';

    public readonly string $file;

    public function __construct(string $directory)
    {
        $key = openssl_pkey_new(['private_key_type' => OPENSSL_KEYTYPE_EC, 'curve_name' => 'prime256v1'])
            ?: throw new \RuntimeException('no key');
        $request = openssl_csr_new(['commonName' => self::NAME], $key);
        $signed = $request instanceof \OpenSSLCertificateSigningRequest
            // Of no authority, or Rust's TLS does not take it for a client's.
            ? openssl_csr_sign($request, null, $key, 2, ['digest_alg' => 'sha256', 'x509_extensions' => 'usr_cert'])
            : false;
        if ($signed === false) {
            throw new \RuntimeException('no certificate');
        }
        openssl_x509_export($signed, $certificatePem);
        openssl_pkey_export($key, $keyPem);
        $this->file = "$directory/certificate";
        file_put_contents($this->file, $certificatePem . $keyPem);
    }
}
